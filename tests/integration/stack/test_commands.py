"""The commands' own tests that show most about a server, on the servers of the stack. Imported is collected."""

from tests.integration.test_history import (  # noqa: F401
    test_json_is_a_list_of_objects_newest_first,
    test_log_that_was_deleted_is_an_error_not_an_empty_history,
)
from tests.integration.test_promote_alias import (  # noqa: F401
    test_model_deleted_and_made_anew_does_not_inherit_verdicts,
    test_the_same_promotion_twice_changes_nothing,
)
from tests.integration.test_release import (  # noqa: F401
    release,
    test_from_the_first_release_to_a_refused_one,
)
from tests.integration.test_rollback import (  # noqa: F401
    test_target_that_was_deleted_is_passed_over,
    test_the_same_workflow_run_again_changes_nothing,
)
from tests.integration.test_train_and_register import (  # noqa: F401
    test_logged_model_of_mlflow_3_is_registered,
    test_run_and_version_are_made_once_though_the_answers_were_lost,
    test_run_has_all_required_tags_and_where_it_came_from,
    test_script_with_mlflow_itself,
    training,
)
