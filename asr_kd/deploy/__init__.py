"""A finished network outside the laboratory: `export` needs torch and onnx, what `transcribe` runs needs neither."""
