"""From parallel text files to batches of token ids: reading, filtering, subwords, the token store, sampling."""
