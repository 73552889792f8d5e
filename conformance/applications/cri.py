#!/usr/bin/env python3
"""A client of the CRI (k8s.io/cri-api, runtime.v1) over a Unix socket: `cri.py SOCKET METHOD JSON` calls a method of the runtime service
and prints the answer as JSON. Only the fields below are known; gRPC is curl's HTTP/2, and its messages are put together here."""

import json
import os
import subprocess
import sys
import tempfile

# Message: field: (number, type); a type in a list is repeated, "map" is of strings.
MESSAGES = {
    "Metadata": {"name": (1, str), "uid": (2, str), "namespace": (3, str), "attempt": (4, int)},
    "ContainerMetadata": {"name": (1, str), "attempt": (2, int)},
    "NamespaceOption": {"network": (1, int), "pid": (2, int), "ipc": (3, int), "target_id": (4, str)},
    "SandboxSecurity": {"namespace_options": (1, "NamespaceOption")},
    "LinuxSandbox": {"cgroup_parent": (1, str), "security_context": (2, "SandboxSecurity")},
    "Dns": {"servers": (1, [str]), "searches": (2, [str]), "options": (3, [str])},
    "PodSandboxConfig": {
        "metadata": (1, "Metadata"),
        "hostname": (2, str),
        "log_directory": (3, str),
        "dns_config": (4, "Dns"),
        "labels": (6, "map"),
        "annotations": (7, "map"),
        "linux": (8, "LinuxSandbox"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig"), "runtime_handler": (2, str)},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, str)},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, str)},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, str)},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, str)},
    "Network": {"ip": (1, str)},
    "SandboxStatus": {"id": (1, str), "state": (3, int), "network": (5, "Network")},
    "PodSandboxStatusResponse": {"status": (1, "SandboxStatus")},
    "ImageSpec": {"image": (1, str)},
    "Mount": {"container_path": (1, str), "host_path": (2, str), "readonly": (3, int)},
    "Resources": {"cpu_shares": (3, int), "memory_limit_in_bytes": (4, int)},
    "ContainerSecurity": {"namespace_options": (3, "NamespaceOption")},
    "LinuxContainer": {"resources": (1, "Resources"), "security_context": (2, "ContainerSecurity")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"),
        "image": (2, "ImageSpec"),
        "command": (3, [str]),
        "args": (4, [str]),
        "mounts": (7, ["Mount"]),
        "labels": (9, "map"),
        "annotations": (10, "map"),
        "log_path": (11, str),
        "tty": (14, int),
        "linux": (15, "LinuxContainer"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, str),
        "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, str)},
    "StartContainerRequest": {"container_id": (1, str)},
    "StopContainerRequest": {"container_id": (1, str), "timeout": (2, int)},
    "RemoveContainerRequest": {"container_id": (1, str)},
    "ContainerStatusRequest": {"container_id": (1, str)},
    "ContainerStatus": {"id": (1, str), "state": (3, int), "exit_code": (7, int), "reason": (10, str), "message": (11, str)},
    "ContainerStatusResponse": {"status": (1, "ContainerStatus")},
    "ExecSyncRequest": {"container_id": (1, str), "cmd": (2, [str]), "timeout": (3, int)},
    "ExecSyncResponse": {"stdout": (1, str), "stderr": (2, str), "exit_code": (3, int)},
    "StatusRequest": {},
    "Condition": {"type": (1, str), "status": (2, int), "reason": (3, str), "message": (4, str)},
    "RuntimeStatus": {"conditions": (1, ["Condition"])},
    "StatusResponse": {"status": (1, "RuntimeStatus")},
}


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def field(number, kind, value):
    if kind is int:
        return varint(number << 3) + varint(int(value))
    if kind == "map":
        return b"".join(
            field(number, bytes, field(1, str, key) + field(2, str, text)) for key, text in value.items()
        )
    data = value if kind is bytes else value.encode() if kind is str else encode(kind, value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(message, values):
    out = b""
    for name, value in values.items():
        number, kind = MESSAGES[message][name]
        many, one = (value, kind[0]) if isinstance(kind, list) else ([value], kind)
        out += b"".join(field(number, one, item) for item in many)
    return out


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def decode(message, data):
    fields = {number: (name, kind) for name, (number, kind) in MESSAGES.get(message, {}).items()}
    values, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            sys.exit(f"a field of type {key & 7} in {message}")
        name, kind = fields.get(key >> 3, (None, None))
        if name is None:
            continue
        one = kind[0] if isinstance(kind, list) else kind
        if one is str:
            value = value.decode(errors="replace")
        elif one is not int:
            value = decode(one, value)
        if isinstance(kind, list):
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def call(socket, method, values):
    body = encode(f"{method}Request", values)
    with tempfile.TemporaryDirectory() as place:
        request, answer, headers = (os.path.join(place, name) for name in ("request", "answer", "headers"))
        with open(request, "wb") as file:
            file.write(b"\0" + len(body).to_bytes(4, "big") + body)
        command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", socket, "--max-time", "120"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", f"@{request}"]
        command += ["-D", headers, "-o", answer, f"http://localhost/runtime.v1.RuntimeService/{method}"]
        subprocess.run(command, check=True)
        trailers = dict(
            line.split(":", 1) for line in open(headers).read().lower().splitlines() if ":" in line and line[0] != ":"
        )
        if trailers.get("grpc-status", "0").strip() != "0":
            sys.exit(f"{method}: {trailers.get('grpc-message', trailers)}")
        data = open(answer, "rb").read() if os.path.exists(answer) else b""
    return decode(f"{method}Response", data[5:])


if __name__ == "__main__":
    print(json.dumps(call(sys.argv[1], sys.argv[2], json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))))
