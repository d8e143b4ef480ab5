"""Judged queries in the S3 of the stack."""

import pytest

from champion_gate.errors import OutsideWorldFailed

# Imported is collected: these run here, too, on the store of the stack.
from tests.integration.test_locations import (  # noqa: F401
    CONTENT,
    aws,
    fetched,
    refused,
    test_an_object_of_s3_is_downloaded,
    test_an_object_or_bucket_that_is_not_there_is_bad_input,
    test_half_of_the_credentials_are_none,
    test_mlflows_endpoint_serves_where_aws_names_none,
    test_objects_of_one_name_stay_apart,
    test_what_names_no_object_is_refused,
    test_without_credentials_it_says_how_to_log_in,
)


@pytest.fixture
def s3_address(stack):
    return stack.s3.endpoint


@pytest.fixture
def s3(stack, aws):  # noqa: F811  (the fixture that was imported)
    """A client of the store, which AWS's variables name, and a bucket `data` with an object."""
    for name, value in stack.s3.variables().items():
        aws.setenv(name, value)
    client = stack.s3.client()
    if "data" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="eval/queries.csv", Body=CONTENT)
    return client


def test_keys_that_the_store_does_not_know_are_the_storages_fault(s3, stack, aws, tmp_path):  # noqa: F811
    if stack.kind == "wheels":
        pytest.skip("no container engine: the store from a wheel believes whatever keys it is shown")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert "s3:GetObject" in refused("s3://data/eval/queries.csv", tmp_path, OutsideWorldFailed)
