"""Which operations of a network must stay in float32 so that a tolerance holds in float16."""
