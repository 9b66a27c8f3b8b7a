"""The torch-free runtime: text to vectors with numpy, tokenizers and one engine."""
