"""Private instances of real mail servers on loopback, certificates and messages for the tests."""
