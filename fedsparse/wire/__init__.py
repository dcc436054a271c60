"""Topics, frames, messages and chunked transfers: the contract, without any I/O."""
