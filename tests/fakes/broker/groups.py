"""
The group coordinator: members, generations, assignments and offsets.

The classic protocol: a join waits until all members of the generation before have
come again or their time is over, and then all get the answer; who is silent for
longer than its session is out.  A static member (KIP-345) that comes again takes its
own place and moves nothing.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kafka.protocol.consumer import (
    HeartbeatResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    OffsetCommitResponse,
    OffsetFetchResponse,
    SyncGroupResponse,
)

if TYPE_CHECKING:
    from tests.fakes.broker.cluster import Cluster

Place = tuple[str, int]


@dataclass
class Member:
    """One member of a group."""

    id_: str
    instance: str | None
    session: float
    patience: float
    protocols: dict[str, bytes]
    seen: float
    joined: bool = True
    assignment: bytes = b""


@dataclass
class Group:
    """
    One group.

    Attributes:
        state: "empty", "joining" (waits for members), "syncing" (waits for the
            leader's assignment) or "stable".
    """

    state: str = "empty"
    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    leader: str = ""
    protocol: str = ""
    kind: str = ""
    since: float = 0.0


class Groups:
    """All groups of a cluster; `offsets` by group, then by place."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.by_id: dict[str, Group] = defaultdict(Group)
        self.offsets: dict[str, dict[Place, tuple[int, str | None]]]
        self.offsets = defaultdict(dict)

    def expire(self) -> None:
        """Members that were silent for longer than their session are out."""
        now = time.monotonic()
        for group in self.by_id.values():
            waits = group.state == "joining"
            for member in list(group.members.values()):
                if waits and member.joined:
                    continue
                if now - member.seen > member.session:
                    self._out(group, member)

    def _out(self, group: Group, member: Member) -> None:
        del group.members[member.id_]
        if not group.members:
            group.state = "empty"
            group.generation += 1
        elif group.state != "joining" or member.joined:
            self._rebalance(group)
        self._cluster.changed.notify_all()

    def _rebalance(self, group: Group) -> None:
        group.state, group.since = "joining", time.monotonic()
        for member in group.members.values():
            member.joined = False

    def judge(self, id_: str, member: str, generation: int) -> int:
        """Whether somebody of this generation speaks; nobody at all may, too."""
        if generation < 0 and not member:
            return 0
        group = self.by_id.get(id_)
        if group is None or member not in group.members:
            return 25
        group.members[member].seen = time.monotonic()
        return 0 if group.generation == generation else 22

    # -- joining --------------------------------------------------------------------

    def join(self, node: int, request: Any, version: int) -> Any:
        if code := self._cluster.astray(node, request.group_id):
            return self.join_refused(request, version, code)
        group = self.by_id[request.group_id]
        instance = request.group_instance_id if version >= 5 else None
        id_ = request.member_id
        if id_ and id_ not in group.members:
            return self.join_refused(request, version, 25)
        known = group.members.get(id_)
        if not id_ and instance is not None:
            known = next(
                (each for each in group.members.values() if each.instance == instance),
                None,
            )
        protocols = {each.name: bytes(each.metadata) for each in request.protocols}
        now = time.monotonic()
        moved = known is None or known.protocols != protocols or known.id_ == id_
        if known is None:
            known = Member(
                f"{instance or 'member'}-{uuid.uuid4()}", instance, 0, 0, {}, now
            )
        else:
            group.members.pop(known.id_)
            if not id_:
                # Who had this place is fenced by its new name.
                name = f"{instance}-{uuid.uuid4()}"
                group.leader = name if group.leader == known.id_ else group.leader
                known.id_ = name
        group.members[known.id_] = known
        known.protocols, known.seen = protocols, now
        known.session = request.session_timeout_ms / 1000
        known.patience = (
            request.rebalance_timeout_ms if version >= 1 else request.session_timeout_ms
        ) / 1000
        group.kind = request.protocol_type
        if not moved and group.state == "stable":
            return self._joined(group, known, version)
        if group.state != "joining":
            self._rebalance(group)
        known.joined = True
        generation = group.generation
        while group.state == "joining" and group.generation == generation:
            patience = max(each.patience for each in group.members.values())
            late = time.monotonic() - group.since > patience
            if late:
                for each in [m for m in group.members.values() if not m.joined]:
                    del group.members[each.id_]
            if all(each.joined for each in group.members.values()):
                self._form(group)
                break
            self._cluster.changed.wait(0.05)
            if known.id_ not in group.members:
                return self.join_refused(request, version, 25)
        return self._joined(group, known, version)

    def _form(self, group: Group) -> None:
        group.generation += 1
        group.state = "syncing"
        shared = set.intersection(*(set(m.protocols) for m in group.members.values()))
        first = next(iter(group.members.values()))
        group.protocol = next((p for p in first.protocols if p in shared), "")
        if group.leader not in group.members:
            group.leader = first.id_
        now = time.monotonic()
        for member in group.members.values():
            member.seen, member.assignment = now, b""
        self._cluster.changed.notify_all()

    def _joined(self, group: Group, member: Member, version: int) -> Any:
        One = JoinGroupResponse.JoinGroupResponseMember
        leads = member.id_ == group.leader and group.state == "syncing"
        return JoinGroupResponse(
            throttle_time_ms=0,
            error_code=0,
            generation_id=group.generation,
            protocol_type=group.kind,
            protocol_name=group.protocol,
            leader=group.leader,
            skip_assignment=False,
            member_id=member.id_,
            members=[
                One(
                    member_id=each.id_,
                    group_instance_id=each.instance,
                    metadata=each.protocols.get(group.protocol, b""),
                )
                for each in (group.members.values() if leads else ())
            ],
        )

    def join_refused(self, request: Any, version: int, code: int) -> Any:
        return JoinGroupResponse(
            throttle_time_ms=0,
            error_code=code,
            generation_id=-1,
            protocol_type=None,
            protocol_name=None if version >= 7 else "",
            leader="",
            skip_assignment=False,
            member_id=request.member_id,
            members=[],
        )

    def sync(self, node: int, request: Any, version: int) -> Any:
        id_ = request.group_id
        code = self._cluster.astray(node, id_)
        code = code or self.judge(id_, request.member_id, request.generation_id)
        if code:
            return self.sync_refused(request, version, code)
        group = self.by_id[id_]
        if group.state == "syncing" and request.member_id == group.leader:
            for each in request.assignments:
                if each.member_id in group.members:
                    group.members[each.member_id].assignment = bytes(each.assignment)
            group.state = "stable"
            self._cluster.changed.notify_all()
        while group.state == "syncing" and group.generation == request.generation_id:
            self._cluster.changed.wait(0.05)
        if group.state != "stable":
            return self.sync_refused(request, version, 27)
        member = group.members.get(request.member_id)
        if member is None:
            return self.sync_refused(request, version, 25)
        return SyncGroupResponse(
            throttle_time_ms=0,
            error_code=0,
            protocol_type=group.kind,
            protocol_name=group.protocol,
            assignment=member.assignment,
        )

    def sync_refused(self, request: Any, version: int, code: int) -> Any:
        return SyncGroupResponse(
            throttle_time_ms=0,
            error_code=code,
            protocol_type=None,
            protocol_name=None,
            assignment=b"",
        )

    def heartbeat(self, node: int, request: Any, version: int) -> Any:
        id_ = request.group_id
        code = self._cluster.astray(node, id_)
        code = code or self.judge(id_, request.member_id, request.generation_id)
        if not code and self.by_id[id_].state == "joining":
            code = 27
        return self.heartbeat_refused(request, version, code)

    def heartbeat_refused(self, request: Any, version: int, code: int) -> Any:
        return HeartbeatResponse(throttle_time_ms=0, error_code=code)

    def leave(self, node: int, request: Any, version: int) -> Any:
        One = LeaveGroupResponse.MemberResponse
        group = self.by_id[request.group_id]
        asked = (
            [(each.member_id, each.group_instance_id) for each in request.members]
            if version >= 3
            else [(request.member_id, None)]
        )
        told = []
        for id_, instance in asked:
            found = group.members.get(id_) or next(
                (
                    each
                    for each in group.members.values()
                    if instance is not None and each.instance == instance
                ),
                None,
            )
            if found is not None:
                self._out(group, found)
            told.append(
                One(
                    member_id=id_,
                    group_instance_id=instance,
                    error_code=0 if found is not None else 25,
                )
            )
        code = told[0].error_code if version < 3 else 0
        return LeaveGroupResponse(throttle_time_ms=0, error_code=code, members=told)

    def leave_refused(self, request: Any, version: int, code: int) -> Any:
        return LeaveGroupResponse(throttle_time_ms=0, error_code=code, members=[])

    # -- offsets --------------------------------------------------------------------

    def commit(self, node: int, request: Any, version: int) -> Any:
        id_ = request.group_id
        code = self._cluster.astray(node, id_)
        code = code or self.judge(
            id_, request.member_id, request.generation_id_or_member_epoch
        )
        if not code:
            for topic in request.topics:
                for part in topic.partitions:
                    self.offsets[id_][topic.name, part.partition_index] = (
                        part.committed_offset,
                        part.committed_metadata,
                    )
        return self.commit_refused(request, version, code)

    def commit_refused(self, request: Any, version: int, code: int) -> Any:
        Topic = OffsetCommitResponse.OffsetCommitResponseTopic
        Part = Topic.OffsetCommitResponsePartition
        return OffsetCommitResponse(
            throttle_time_ms=0,
            topics=[
                Topic(
                    name=topic.name,
                    partitions=[
                        Part(partition_index=each.partition_index, error_code=code)
                        for each in topic.partitions
                    ],
                )
                for topic in request.topics
            ],
        )

    def fetch(self, node: int, request: Any, version: int) -> Any:
        return self._fetched(node, request, version, 0)

    def fetch_refused(self, request: Any, version: int, code: int) -> Any:
        return self._fetched(node=0, request=request, version=version, refused=code)

    def _fetched(self, node: int, request: Any, version: int, refused: int) -> Any:
        if version < 8:
            code = refused or self._cluster.astray(node, request.group_id)
            return OffsetFetchResponse(
                throttle_time_ms=0,
                error_code=code,
                topics=self._offsets(
                    request.group_id,
                    request.topics,
                    OffsetFetchResponse.OffsetFetchResponseTopic,
                    "OffsetFetchResponsePartition",
                    code,
                    request.require_stable if version >= 7 else False,
                ),
            )
        One = OffsetFetchResponse.OffsetFetchResponseGroup
        groups = []
        for asked in request.groups:
            code = refused or self._cluster.astray(node, asked.group_id)
            groups.append(
                One(
                    group_id=asked.group_id,
                    error_code=code,
                    topics=self._offsets(
                        asked.group_id,
                        asked.topics,
                        One.OffsetFetchResponseTopics,
                        "OffsetFetchResponsePartitions",
                        code,
                        request.require_stable,
                    ),
                )
            )
        return OffsetFetchResponse(throttle_time_ms=0, groups=groups)

    def _offsets(
        self, id_: str, asked: Any, Topic: Any, part: str, code: int, stable: bool
    ) -> list[Any]:
        known = self.offsets.get(id_, {})
        places: dict[str, list[int]] = defaultdict(list)
        if asked is None:
            for name, at in known:
                places[name].append(at)
        else:
            for topic in asked:
                places[topic.name] += topic.partition_indexes
        pending = {
            place
            for each in self._cluster.transactions.by_id.values()
            if each.state == "ongoing"
            for place in each.offsets.get(id_, {})
        }
        Part = getattr(Topic, part)
        topics = []
        for name, indexes in places.items():
            parts = []
            for at in indexes:
                offset, metadata = known.get((name, at), (-1, ""))
                open_ = stable and (name, at) in pending
                parts.append(
                    Part(
                        partition_index=at,
                        committed_offset=-1 if open_ else offset,
                        committed_leader_epoch=-1,
                        metadata=metadata,
                        error_code=code or (88 if open_ else 0),
                    )
                )
            topics.append(Topic(name=name, partitions=parts))
        return topics
