from tests.compose.conftest import concepts as concepts
from tests.compose.conftest import project as project
