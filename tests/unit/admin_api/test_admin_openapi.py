from collections import Counter

from openapi_spec_validator import OpenAPIV31SpecValidator

from admin_api import app, openapi
from settings import Settings
from storage.database import Database
from tests.support.admin_api import StandInControl

DOCUMENT = openapi.document(app.ROUTES)


def test_the_document_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    database = Database("sqlite:////nonexistent/hallmonitor.db")
    application = app.build(database, StandInControl(database), Settings())
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    documented = {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert served == documented
    database.close()


def test_operations_have_names_of_their_own() -> None:
    names = Counter(
        operation["operationId"] for operations in DOCUMENT["paths"].values() for operation in operations.values()
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_every_schema_that_is_named_is_there() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert {route.schema for route in app.ROUTES} <= set(schemas)


def test_what_needs_no_token_says_so() -> None:
    open_operations = {
        path
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        if operation["security"] in ([], [{"token": []}, {}])
    }
    assert open_operations == {"/api/v1/health", "/api/v1/openapi.json", "/metrics", "/api/v1/metrics"}
