"""The protein network that the paper's authors released, with our samplers: converter of its weights, network, denoiser.

Nothing else in the package imports this folder; it is reached by name (`systems.protein.domain`, `cli.convert`), and may be deleted.
"""
