"""Teachers: finding, downloading and reading them, and their replay data."""

from reincarnating_rl.teachers.ensemble import Combination
from reincarnating_rl.teachers.ensemble import combine
from reincarnating_rl.teachers.ensemble import LoadedEnsemble
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.loading import load
from reincarnating_rl.teachers.teacher import LoadedTeacher

__all__ = (
    'Combination',
    'LoadedEnsemble',
    'LoadedTeacher',
    'TeacherError',
    'combine',
    'load',
)
