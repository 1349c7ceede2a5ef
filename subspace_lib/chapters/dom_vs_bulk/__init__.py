"""Chapter 02: Dom-SGD and Bulk-SGD."""

from subspace_lib.chapters.dom_vs_bulk.judge import CLAIMS, judge
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters, dom_bulk_study, tasks
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("02_dom_vs_bulk", DomBulkParameters(), dom_bulk_study, judge, CLAIMS, tasks)
