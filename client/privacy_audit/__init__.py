"""Whether training code keeps the epsilon that a study states: attacks, and what they prove."""
