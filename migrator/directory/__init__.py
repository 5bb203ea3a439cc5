"""Readers of the files in which other mail systems keep their accounts, and what is made of them for CommuniGate."""
