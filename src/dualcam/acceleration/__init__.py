"""A faster copy of a model whose logits are the model's: what is done, in which order, and the proof.

fold      batch norms into the convolutions before them, where a recorded forward shows that nobody else reads
blocked   the form of weights that the CPU's library computes with: when it is made anew, and when it serves
packed    convolutions, linear layers and attention that keep their weights in it
packing   which of a model's layers gain by it
proof     logits and activations of both models on noise
optimize  the steps, each kept only if the proof holds
"""
