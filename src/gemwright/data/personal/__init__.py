"""Personal data: found by patterns with check digits, then redacted, or their texts dropped."""
