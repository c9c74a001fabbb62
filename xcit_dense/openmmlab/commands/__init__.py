"""The command lines behind ``tools/``: options, checks, and handing over to mmengine's Runner."""
