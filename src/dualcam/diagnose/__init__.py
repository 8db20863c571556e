"""What softmax left undecided in a classifier, and what that does to its heat maps: `dualcam diagnose`."""
