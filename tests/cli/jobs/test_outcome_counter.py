from adapty_async.bulk import Outcome
from adapty_async.cli.jobs.outcome_counter import OutcomeCounter


def test_the_standing_tells_done_from_failed_and_stays_as_it_is() -> None:
    books = OutcomeCounter(5)
    books.count(Outcome.DELETED)
    books.count(Outcome.IN_DOUBT)
    standing = books.outcome_counts
    books.count_unread()
    assert (standing.total, standing.success_count, standing.failed_count, standing.remaining_count) == (5, 1, 1, 3)
    assert books.outcome_counts.by_outcome[Outcome.NOT_ATTEMPTED] == 3
