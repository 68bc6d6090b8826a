"""The server: bundles in, translations out. Imports neither torch nor any other package of ours."""
