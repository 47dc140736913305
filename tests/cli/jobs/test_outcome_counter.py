from adapty_async.bulk import Outcome
from adapty_async.cli.jobs.outcome_counter import Books


def test_the_standing_tells_done_from_failed_and_stays_as_it_is() -> None:
    books = Books(5)
    books.enter(Outcome.DELETED)
    books.enter(Outcome.IN_DOUBT)
    standing = books.standing
    books.enter_unread()
    assert (standing.total, standing.done, standing.failed, standing.left) == (5, 1, 1, 3)
    assert books.standing.counts[Outcome.NOT_ATTEMPTED] == 3
