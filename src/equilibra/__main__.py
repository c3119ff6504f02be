"""`python -m equilibra`: the program `equilibra` of this interpreter."""

from equilibra.cli.main import main

if __name__ == "__main__":
    main()
