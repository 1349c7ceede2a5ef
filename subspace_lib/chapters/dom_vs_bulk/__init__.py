"""Chapter 02: Dom-SGD and Bulk-SGD."""

from subspace_lib.chapters.dom_vs_bulk.judge import CLAIMS, judge
from subspace_lib.chapters.dom_vs_bulk.study import tasks
from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study

CHAPTER = Chapter("02_dom_vs_bulk", SwitchParameters(), switch_study, judge, CLAIMS, tasks)
