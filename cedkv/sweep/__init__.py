"""What settings do to ON and OFF over tasks, seeds and methods: many extractions, each judged as a gate judges."""
