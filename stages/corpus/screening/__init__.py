"""What the screen looks at: addresses, licences and opt-outs, language, undesirable content, personal data."""
