"""The engine on CPUs with OpenVINO: a graph built from the weights."""
