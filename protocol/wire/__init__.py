"""What crosses the network: messages, enrolment cards, and their encoding for Flower."""
