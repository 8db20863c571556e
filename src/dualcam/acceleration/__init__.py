"""A faster copy of a model whose logits are the model's: what is done, in which order, and the proof.

fold      batch norms into the convolutions before them, where a recorded forward shows that nobody else reads
packed    convolutions that keep their weights in the form that the CPU's library computes with
proof     logits and activations of both models on noise
optimize  the steps, each kept only if the proof holds
"""
