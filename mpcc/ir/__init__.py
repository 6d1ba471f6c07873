"""The IR: types, declarations, text form, verifier, interpreters."""
