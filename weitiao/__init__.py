"""weitiao (微调): from a file of examples to a fine-tuned language model, with proof of how good it is and what it cost."""

__version__ = "0.1.0"
