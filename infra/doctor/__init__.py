"""`kmunet doctor`: what works here, what does not, and what to mend."""
