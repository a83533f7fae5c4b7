"""Bytes to documents. What cannot be read is set aside with its reason; reading goes on."""
