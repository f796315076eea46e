"""What ``clmer doctor`` looks at: each check is a plain function that says what it found and what to mend."""
