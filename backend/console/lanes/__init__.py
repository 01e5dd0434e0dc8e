"""The pages of lanes and of one lane."""
