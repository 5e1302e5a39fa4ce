"""The generated units, unchanged, started by Debian's systemd in a guest with Debian's kernel.

nginx listens on port 80, makes its folders itself and logs to files that are links to its standard
output; the other service lies in a home, finds folders and a file in what it writes, and listens
above 1024.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.system.hardening import NGINX, Done, busybox
from tests.system.systemd_guest import UNITS, said, unpacked

pytestmark = pytest.mark.system

ASK = """\
import http.client, sys
try:
    peer = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
    peer.request("GET", sys.argv[2])
    answer = peer.getresponse()
    print("ANSWER", answer.status, answer.read().decode("latin-1").split("\\n", 1)[0])
except OSError as error:
    print("ANSWER", error)
"""
WRITABLE = """\
import os, re, sys
pid = sys.argv[1]
with open(f"/proc/{pid}/status") as file:
    uid, gid = re.findall(r"^[UG]id:\\t(\\d+)", file.read(), re.M)
os.chroot(f"/proc/{pid}/root")
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
for place, folders, _ in os.walk("/"):
    if place == "/":
        folders.remove("proc")
    if os.access(place, os.W_OK):
        print("WRITABLE", place, "noexec" if os.statvfs(place).f_flag & os.ST_NOEXEC else "exec")
"""
"""Every folder that the user of a process may write in, where that process is."""
DEVICES = """\
import os, sys
unit, *places = sys.argv[1:]
def opened(when):
    for place in places:
        try:
            os.close(os.open(place, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
            print("DEVICE", when, os.path.basename(place), "opened")
        except OSError as error:
            print("DEVICE", when, os.path.basename(place), error.strerror)
opened("outside")
with open(f"/sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
opened("inside")
"""
"""Opens device files as root, first of the host, then of a unit's control group."""
WITHOUT = {
    "owner": "/^TemporaryFileSystem=/s/,uid=[0-9]*,gid=[0-9]*//",
    "output": "/^StandardOutput=/d",
    "capability": "s/=CAP_NET_BIND_SERVICE/=/",
}
"""What nginx's unit does not start without, each taken away by a command of sed(1)."""
STATE = "var/lib/ringfence/web/state/home/app/data"
ACTS = f"""#!/bin/sh
exec >/dev/ttyS0 2>&1
ask() {{ echo "ASKED $1 $2"; python3 /ask "$1" "$2"; }}
started() {{
    systemctl start $1
    port=$(printf %04X $2)
    for turn in $(seq 100); do
        grep -q ":$port 0*:0000 0A" /proc/net/tcp /proc/net/tcp6 && break
        systemctl -q is-active $1 || break
        sleep 0.2
    done
    echo "STATE $1 $(systemctl is-active $1)"
    journalctl --sync
    journalctl -q -u $1 --no-pager -o cat | tail -12 | sed 's/^/JOURNAL /'
}}
started nginx 80
ask 80 /
ask 80 /none
pid=$(systemctl show -p MainPID --value nginx)
grep -E '^(Uid|NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/$pid/status
sed 's/^/MOUNT /' /proc/$pid/mountinfo
python3 /writable $pid | sed 's/^WRITABLE/& nginx/'
systemctl restart nginx
started nginx 80
ask 80 /
systemctl stop nginx
systemctl show -p Result -p ExecMainStatus nginx | sed 's/^/STOPPED /'
sed 's/^/LOG /' /var/log/ringfence-nginx.log
for name in {" ".join(WITHOUT)}; do
    sed -f /without-$name /{UNITS}/nginx.service >/run/systemd/system/without-$name.service
    systemctl daemon-reload
    started without-$name 80
    systemctl stop without-$name
done
started web 8080
sed -n 's/^# systemd-sysusers/systemd-sysusers/p' /{UNITS}/web.service | sh
started web 8080
ask 8080 /cgi-bin/show
ask 8080 /cgi-bin/add
ask 8080 /cgi-bin/show
pid=$(systemctl show -p MainPID --value web)
sed 's/^/MOUNT /' /proc/$pid/mountinfo
python3 /writable $pid | sed 's/^WRITABLE/& web/'
mknod -m 666 /{STATE}/null c 1 3
mknod -m 666 /{STATE}/serial c 4 64
python3 /devices web /{STATE}/null /{STATE}/serial
rm /{STATE}/null /{STATE}/serial
systemctl stop web
ls -d /run/ringfence/web/run
started web 8080
ask 8080 /cgi-bin/show
systemctl stop web
systemctl poweroff -ff
"""
SHOW = "echo $(cat /home/app/data/seed) /run/* /run/web/* /home/app/data/*"
ADD = "echo m >/home/app/data/mark; echo l >/run/web/last; echo t >/run/top"
SHARED = "echo s >/dev/shm/mark; echo s >/tmp/mark; echo added"


def web(folder: Path) -> Path:
    """busybox with CGI scripts that write into folders that are not empty."""
    tree = busybox(folder, "httpd", "sh", "cat")
    for name in ("home/app/www/cgi-bin", "run/web", "home/app/data", "tmp"):
        (tree / name).mkdir(parents=True)
    (tree / "home/app/data/seed").write_text("seed\n")
    (tree / "home/app/www/index.html").write_text("front\n")
    answer = "echo 'Content-Type: text/plain'\necho\n"
    for name, body in (("run.sh", "exec /bin/httpd -f -p 8080 -h /home/app/www"),
                       ("www/cgi-bin/show", answer + SHOW),
                       ("www/cgi-bin/add", answer + f"{ADD}; {SHARED}")):  # fmt: skip
        script = tree / "home/app" / name
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return tree


def installed(tree: Path, name: str, result: Path) -> None:
    """As docs/harden.md says: the image's layer at the unit's root, and the unit."""
    root = tree / "var/lib/ringfence" / name / "root"
    root.mkdir(parents=True)
    archive = result / "image.oci.tar"
    words = ["tar", "-xOf", str(archive)]
    listed = subprocess.run([*words, "manifest.json"], capture_output=True, check=True).stdout
    (layer,) = json.loads(listed)[0]["Layers"]
    content = subprocess.run([*words, layer], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xp", "--numeric-owner", "-C", root], input=content, check=True)
    unit = (result / "policy/service.service").read_bytes()
    (tree / UNITS / f"{name}.service").write_bytes(unit)


@pytest.fixture(scope="module")
def console(rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("systemd")
    http = "http://localhost:8080/cgi-bin"
    for name, words, command in (
        ("nginx", [str(rootfs_tar), "--http", "http://localhost/"], NGINX),
        ("web", [str(web(place / "web")), "--http", f"{http}/show", "--http", f"{http}/add",
                 "--http", f"{http}/show", "--name", "web"],
         ("/home/app/run.sh",)),
    ):  # fmt: skip
        done = Done(*words, "-o", str(place / f"{name}.result"), command=command)
        assert done.code == 0, done.err
    tree = place / "tree"
    unpacked(tree)
    for name in ("nginx", "web"):
        installed(tree, name, place / f"{name}.result")
    for name, script in (("ask", ASK), ("writable", WRITABLE), ("devices", DEVICES)):
        (tree / name).write_text(script)
    for name, change in WITHOUT.items():
        (tree / f"without-{name}").write_text(f"{change}\n")
    return said(tree, ACTS, place)


def answers(console: str) -> list[tuple[str, str]]:
    """What was asked, and how it was answered, in order."""
    return re.findall(r"^ASKED (.+)\nANSWER (.+)$", console, re.M)


def test_nginx_starts_serves_logs_and_stops(console: str) -> None:
    assert re.findall(r"^STATE nginx (.*)$", console, re.M) == ["active"] * 2, console[-4000:]
    asked = [(what, answer[:3]) for what, answer in answers(console) if what.startswith("80 ")]
    assert asked == [("80 /", "200"), ("80 /none", "404"), ("80 /", "200")]
    assert re.findall(r"^STOPPED (.*)$", console, re.M) == ["Result=success", "ExecMainStatus=0"]
    log = "\n".join(re.findall(r"^LOG (.*)$", console, re.M))
    assert log.count('"GET / HTTP/1.1" 200') == 2 and '"GET /none HTTP/1.1" 404' in log


def test_nginx_has_the_one_capability_and_nothing_else(console: str) -> None:
    fields = dict(re.findall(r"^(\w+):\t(.*)$", console, re.M))
    assert fields["Uid"].split() == ["33"] * 4
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    bind = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE (linux/capability.h)
    assert (fields["CapEff"], fields["CapBnd"]) == (bind, bind)


@pytest.mark.parametrize("name", WITHOUT)
def test_nginx_does_not_start_without(name: str, console: str) -> None:
    assert re.findall(rf"^STATE without-{name} (.*)$", console, re.M) == ["failed"]


def test_writable_folders_begin_as_the_image_has_them(console: str) -> None:
    """State is there again at the next start, what is in memory is not. /run/systemd is systemd's
    own: it mounts there in every service's view."""
    first, *others = re.findall(r"^STATE web (.*)$", console, re.M)
    assert (first, others) == ("failed", ["active"] * 2), console[-4000:]
    assert "JOURNAL web.service: Control process exited, code=exited, status=217/USER" in console
    fresh, added, used, again = (answer for what, answer in answers(console) if "cgi-bin" in what)
    assert fresh == "200 seed /run/systemd /run/web /run/web/* /home/app/data/seed"
    assert added == "200 added"
    assert used == (
        "200 seed /run/systemd /run/top /run/web /run/web/last"
        " /home/app/data/mark /home/app/data/seed"
    )
    assert again == (
        "200 seed /run/systemd /run/web /run/web/* /home/app/data/mark /home/app/data/seed"
    )
    assert "cannot access '/run/ringfence/web/run'" in console


def test_only_writable_folders_are_writable_and_nothing_in_them_is_executed(console: str) -> None:
    """Whatever else systemd mounts there (/tmp, /var/tmp, what is of the host's /dev)."""
    mounts = dict(re.findall(r"^MOUNT \d+ \d+ \d+:\d+ \S+ (\S+) (\S+)", console, re.M))
    assert mounts["/"].split(",")[0] == "ro"
    found = re.findall(r"^WRITABLE (\S+) (\S+) (\S+)$", console, re.M)
    assert {options for _, _, options in found} == {"noexec"}, found
    assert {place for name, place, _ in found if name == "web"} == {
        "/home/app/data", "/run", "/run/web", "/tmp", "/dev/shm"
    }  # fmt: skip
    nginx = {place for name, place, _ in found if name == "nginx"}
    assert {"/" + "/".join(place.split("/")[1:4]) for place in nginx} == {"/run", "/var/lib/nginx"}


def test_no_device_is_opened_by_a_file_in_state(console: str) -> None:
    """Its mount is without nodev, which BindPaths= does not know; the control group refuses it."""
    assert re.findall(r"^DEVICE (.*)$", console, re.M) == [
        "outside null opened", "outside serial opened",
        "inside null opened", "inside serial Operation not permitted",
    ]  # fmt: skip
