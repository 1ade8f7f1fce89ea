"""Which addresses a host deals out: blocks cut from pools, addresses dealt from blocks."""
