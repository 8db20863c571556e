"""The command `dualcam`: one file a command. Heavy imports load inside the commands, so that help answers at once."""
