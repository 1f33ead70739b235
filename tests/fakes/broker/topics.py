"""ApiVersions, Metadata, topics, coordinators and logins."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from kafka.protocol.admin import (
    CreateTopicsResponse,
    DeleteTopicsResponse,
    DescribeConfigsResponse,
)
from kafka.protocol.metadata import (
    ApiVersionsResponse,
    FindCoordinatorResponse,
    MetadataResponse,
)
from kafka.protocol.sasl import SaslAuthenticateResponse, SaslHandshakeResponse

from tests.fakes.broker.spoken import SPOKEN

if TYPE_CHECKING:
    from tests.fakes.broker.cluster import Cluster

#: What a topic has where its creator said nothing.
DEFAULTS = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "retention.ms": "604800000",
    "message.timestamp.type": "CreateTime",
}

TOPIC, BROKER = 2, 4


class Topics:
    """What a cluster says of itself."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # -- the way in -----------------------------------------------------------------

    def versions(self, node: int, request: Any, version: int) -> Any:
        return self.versions_refused(request, version, 0)

    def versions_refused(self, request: Any, version: int, code: int) -> Any:
        keys = [
            ApiVersionsResponse.ApiVersion(
                api_key=key, min_version=low, max_version=top
            )
            for key, (low, top) in SPOKEN[self._cluster.version].items()
        ]
        Supported = ApiVersionsResponse.SupportedFeatureKey
        Finalized = ApiVersionsResponse.FinalizedFeatureKey
        level = self._cluster.transaction_version
        answer = ApiVersionsResponse(error_code=code, api_keys=keys, throttle_time_ms=0)
        if version >= 3 and level:
            answer.supported_features = [
                Supported(name="transaction.version", min_version=0, max_version=2)
            ]
            answer.finalized_features_epoch = 1
            answer.finalized_features = [
                Finalized(
                    name="transaction.version",
                    max_version_level=level,
                    min_version_level=level,
                )
            ]
        return answer

    def handshake(self, node: int, request: Any, version: int) -> Any:
        return self.handshake_refused(request, version, 0)

    def handshake_refused(self, request: Any, version: int, code: int) -> Any:
        return SaslHandshakeResponse(error_code=code, mechanisms=["PLAIN"])

    def authenticate(self, node: int, request: Any, version: int) -> Any:
        self._cluster.logins.append(bytes(request.auth_bytes))
        return self.authenticate_refused(request, version, self._cluster.login_error)

    def authenticate_refused(self, request: Any, version: int, code: int) -> Any:
        return SaslAuthenticateResponse(
            error_code=code,
            error_message="bad credentials" if code else None,
            auth_bytes=b"",
            session_lifetime_ms=self._cluster.session_ms,
        )

    # -- who has what ---------------------------------------------------------------

    def metadata(self, node: int, request: Any, version: int) -> Any:
        return self._told(request, version, 0)

    def metadata_refused(self, request: Any, version: int, code: int) -> Any:
        return self._told(request, version, code)

    def _told(self, request: Any, version: int, code: int) -> Any:
        cluster = self._cluster
        asked = request.topics
        if version >= 4 and request.allow_auto_topic_creation:
            cluster.asked_to_create += 1
        if asked is None or (version == 0 and not asked):
            names: list[tuple[str | None, uuid.UUID | None]]
            names = [(name, None) for name in cluster.topics]
        else:
            by_id = {each: name for name, each in cluster.ids.items()}
            names = [
                (each.name, None)
                if each.name is not None
                else (by_id.get(each.topic_id), each.topic_id)
                for each in asked
            ]
        return MetadataResponse(
            throttle_time_ms=0,
            brokers=[
                MetadataResponse.MetadataResponseBroker(
                    node_id=at, host=cluster.host, port=port, rack=None
                )
                for at, port in cluster.ports.items()
            ],
            cluster_id="fake",
            controller_id=1,
            topics=[self._topic(name, given, code) for name, given in names],
            error_code=0,
        )

    def _topic(self, name: str | None, given: uuid.UUID | None, code: int) -> Any:
        cluster = self._cluster
        Topic = MetadataResponse.MetadataResponseTopic
        count = cluster.topics.get(name or "")
        nodes = list(cluster.ports)
        partitions = [
            Topic.MetadataResponsePartition(
                error_code=5 if cluster.leaders[name, at] < 0 else 0,
                partition_index=at,
                leader_id=cluster.leaders[name, at],
                leader_epoch=0,
                replica_nodes=nodes[:1],
                isr_nodes=nodes[:1],
                offline_replicas=[],
            )
            for at in range(0 if code else count or 0)
            if name is not None
        ]
        missing = 3 if given is None else 100
        return Topic(
            error_code=code or (0 if count else missing),
            name=name,
            topic_id=cluster.ids.get(name or "", given or uuid.UUID(int=0)),
            is_internal=False,
            partitions=partitions,
        )

    def coordinator(self, node: int, request: Any, version: int) -> Any:
        return self.coordinator_refused(request, version, 0)

    def coordinator_refused(self, request: Any, version: int, code: int) -> Any:
        cluster = self._cluster

        def of(key: str) -> dict[str, Any]:
            at = cluster.coordinators.get(key, 1)
            port = cluster.ports.get(at)
            why = code or (0 if port else 15)
            return {
                "node_id": -1 if why else at,
                "host": "" if why else cluster.host,
                "port": -1 if why else port,
                "error_code": why,
                "error_message": None,
            }

        if version >= 4:
            One = FindCoordinatorResponse.Coordinator
            return FindCoordinatorResponse(
                throttle_time_ms=0,
                coordinators=[
                    One(key=key, **of(key)) for key in request.coordinator_keys
                ],
            )
        return FindCoordinatorResponse(throttle_time_ms=0, **of(request.key))

    # -- admin ----------------------------------------------------------------------

    def create(self, node: int, request: Any, version: int) -> Any:
        return self._created(request, 0)

    def create_refused(self, request: Any, version: int, code: int) -> Any:
        return self._created(request, code)

    def _created(self, request: Any, refused: int) -> Any:
        cluster = self._cluster
        Topic = CreateTopicsResponse.CreatableTopicResult
        topics = []
        for asked in request.topics:
            code = refused
            if not code and asked.name in cluster.topics:
                code = 36
            if not code and not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", asked.name):
                code = 17
            count = len(asked.assignments) or max(asked.num_partitions, 1)
            if not code and not request.validate_only:
                config = {each.name: each.value for each in asked.configs}
                cluster.create(asked.name, count, **config)
            topics.append(
                Topic(
                    name=asked.name,
                    topic_id=cluster.ids.get(asked.name, uuid.UUID(int=0)),
                    error_code=code,
                    error_message=None,
                    num_partitions=-1 if code else count,
                    replication_factor=-1 if code else 1,
                    configs=None if code else [],
                )
            )
        return CreateTopicsResponse(throttle_time_ms=0, topics=topics)

    def delete(self, node: int, request: Any, version: int) -> Any:
        return self._deleted(request, version, 0)

    def delete_refused(self, request: Any, version: int, code: int) -> Any:
        return self._deleted(request, version, code)

    def _deleted(self, request: Any, version: int, refused: int) -> Any:
        cluster = self._cluster
        Topic = DeleteTopicsResponse.DeletableTopicResult
        by_id = {each: name for name, each in cluster.ids.items()}
        names = (
            request.topic_names
            if version < 6
            else [each.name or by_id.get(each.topic_id) for each in request.topics]
        )
        topics = []
        for name in names:
            known = name in cluster.topics
            id_ = cluster.ids.get(name or "", uuid.UUID(int=0))
            if name is not None and known and not refused:
                cluster.delete(name)
            topics.append(
                Topic(
                    name=name,
                    topic_id=id_,
                    error_code=refused or (0 if known else 3),
                    error_message=None,
                )
            )
        return DeleteTopicsResponse(throttle_time_ms=0, responses=topics)

    def configs(self, node: int, request: Any, version: int) -> Any:
        return self._described(request, 0)

    def configs_refused(self, request: Any, version: int, code: int) -> Any:
        return self._described(request, code)

    def _described(self, request: Any, refused: int) -> Any:
        cluster = self._cluster
        Result = DescribeConfigsResponse.DescribeConfigsResult
        Entry = Result.DescribeConfigsResourceResult
        results = []
        for asked in request.resources:
            topic = asked.resource_type == TOPIC
            code = refused
            if not code and topic and asked.resource_name not in cluster.topics:
                code = 3
            given = cluster.configs.get(asked.resource_name, {}) if topic else {}
            entries = {**DEFAULTS, **given} if topic and not code else {}
            wanted = asked.configuration_keys
            results.append(
                Result(
                    error_code=code,
                    error_message=None,
                    resource_type=asked.resource_type,
                    resource_name=asked.resource_name,
                    configs=[
                        Entry(
                            name=name,
                            value=value,
                            read_only=False,
                            config_source=1 if name in given else 5,
                            is_default=name not in given,
                            is_sensitive=False,
                            synonyms=[],
                            config_type=2,
                            documentation=None,
                        )
                        for name, value in entries.items()
                        if wanted is None or name in wanted
                    ],
                )
            )
        return DescribeConfigsResponse(throttle_time_ms=0, results=results)
