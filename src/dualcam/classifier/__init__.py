"""Stage one: fine-tune a softmax classifier on image labels, with one process or many."""
