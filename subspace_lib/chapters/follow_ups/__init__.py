"""Chapter 13: what papers that followed say."""

from subspace_lib.chapters.follow_ups.judge import CLAIMS, judge
from subspace_lib.chapters.follow_ups.study import FollowUpParameters, follow_up_study, tasks
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("13_follow_ups", FollowUpParameters(), follow_up_study, judge, CLAIMS, tasks)
