"""The two model families, a Transformer and an attention RNN, behind one `encode / decode_step` contract."""
