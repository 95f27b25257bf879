"""A served model under load and faults: whoever asks gets one answer or one clear error."""
