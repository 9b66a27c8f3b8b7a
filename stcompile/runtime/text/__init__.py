"""Text front ends: strings to the arrays a graph takes, one front end a file."""
