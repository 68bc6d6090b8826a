"""Model families behind one contract: recurrent, Transformer, decoder-only, and masked for pre-training."""
