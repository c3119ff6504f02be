import sys
from pathlib import Path

# the targets are shared by the modules of this folder
sys.path.insert(0, str(Path(__file__).parent))
