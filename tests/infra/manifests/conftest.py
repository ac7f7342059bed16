import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # deployment_files, for tests alone
