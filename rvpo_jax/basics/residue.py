"""From where on a number of the method counts as different from 0."""

# Smaller differences between scores or advantages are float32 residue, which depends on how a
# batch is laid out; both have standard deviation 1, so nothing that moves a policy is this small.
RESIDUE = 1e-5
# An advantage counts as positive from here on.
POSITIVE = RESIDUE
