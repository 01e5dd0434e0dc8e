"""An operator, a viewer, and an operator of another account. Imports wait until Django is set up."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def site(db: None) -> Any:
    from tests.support.factories import make_site

    return make_site("ours")


@pytest.fixture
def their_site(site: Any) -> Any:
    from tests.support.factories import make_site

    return make_site("theirs")


@pytest.fixture
def operator(site: Any) -> Any:
    from tests.support.api_users import OPERATE, VIEW, make_user

    return make_user("alice", site, VIEW, OPERATE)


@pytest.fixture
def viewer(site: Any) -> Any:
    from tests.support.api_users import VIEW, make_user

    return make_user("victor", site, VIEW)


@pytest.fixture
def stranger(their_site: Any) -> Any:
    from tests.support.api_users import OPERATE, VIEW, make_user

    return make_user("sam", their_site, VIEW, OPERATE)


@pytest.fixture
def api(operator: Any) -> Any:
    from tests.support.api_users import client_of

    return client_of(operator)
