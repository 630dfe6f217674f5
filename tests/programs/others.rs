//! Servers of something else than HTTP, and what asks them.

use crate::program::{Program, other};

const POSTGRES: &str = r#"
for folder in /etc/postgresql/*/main; do
  echo 'host all all all trust' > $folder/pg_hba.conf
  version=$(basename $(dirname $folder))
  exec su postgres -c "/usr/lib/postgresql/$version/bin/postgres -c listen_addresses='*' -c config_file=$folder/postgresql.conf"
done"#;

const MARIADB: &str = r#"
mkdir -p /run/mysqld && chown mysql /run/mysqld
printf "CREATE USER lab IDENTIFIED BY 'x';\nGRANT ALL ON *.* TO lab;\n" > /init.sql
exec mariadbd --user=mysql --bind-address=0.0.0.0 --skip-name-resolve --init-file=/init.sql"#;

const SSHD: &str = r#"
mkdir -p /run/sshd && echo root:x | chpasswd && ssh-keygen -A >/dev/null
exec /usr/sbin/sshd -D -e -o PermitRootLogin=yes -o PasswordAuthentication=yes"#;

const FTP: &str = r#"
useradd -m lab 2>/dev/null; echo lab:x | chpasswd; mkdir -p /var/run/vsftpd/empty; seq 1000 > /home/lab/a
printf '%s\n' listen=YES local_enable=YES write_enable=YES pasv_enable=YES pasv_min_port=$LOW pasv_max_port=$HIGH \
  seccomp_sandbox=NO isolate=NO isolate_network=NO background=NO pam_service_name=login > /v.conf
# It closes every descriptor that it may have, and takes process 1 for the end of its parent.
ulimit -n 1024; vsftpd /v.conf & wait"#;

const SYSLOG: &str = r#"
printf 'module(load="imtcp")\ninput(type="imtcp" port="514")\n$template line,"%%msg%%\\n"\n*.* /log;line\n' > /r.conf
exec rsyslogd -n -f /r.conf -i /r.pid"#;

const LDAP: &str = r#"
mkdir -p /ldap && printf '%s\n' 'include /etc/ldap/schema/core.schema' 'modulepath /usr/lib/ldap' 'moduleload back_mdb' \
  'database mdb' 'suffix "dc=lab"' 'rootdn "cn=admin,dc=lab"' 'rootpw x' 'directory /ldap' > /s.conf
printf 'dn: dc=lab\nobjectClass: dcObject\nobjectClass: organization\no: lab\n' | slapadd -f /s.conf
exec slapd -f /s.conf -h ldap://0.0.0.0:389 -d 0"#;

const SMTP: &str = r#"
cat > /smtp.py <<'END'
import time
from aiosmtpd.controller import Controller
class Handler:
    async def handle_DATA(self, server, session, envelope):
        return f"250 {envelope.mail_from} {envelope.rcpt_tos} {len(envelope.content)}"
Controller(Handler(), hostname="0.0.0.0", port=25, server_hostname="mail").start()
while True:
    time.sleep(100)
END
exec python3 /smtp.py"#;

const TLS: &str = r#"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout /key.pem -out /cert.pem 2>/dev/null
cat > /nginx.conf <<'END'
events {}
http { server { listen 443 ssl http2; ssl_certificate /cert.pem; ssl_certificate_key /key.pem; return 200 "over $scheme $server_protocol\n"; } }
END
exec nginx -c /nginx.conf -g 'daemon off;'"#;

pub(crate) const PROGRAMS: &[Program] = &[
    other(
        "Redis, redis-cli",
        6379,
        "exec redis-server --bind 0.0.0.0 --protected-mode no --save ''",
        r#"redis-cli -h $A -p $P set key "$(seq 10000)"; redis-cli -h $A -p $P get key | md5sum
           redis-cli -h $A -p $P eval 'return {1,2,{3}}' 0; printf 'PING\r\nQUIT\r\n' | nc $A $P
           redis-benchmark -h $A -p $P -n 2000 -c 20 -t set,get --csv | cut -d, -f1"#,
    ),
    other(
        "PostgreSQL with TLS, psql",
        5432,
        POSTGRES,
        r#"psql -h $A -p $P -U postgres -tA -c 'select ssl from pg_stat_ssl where pid = pg_backend_pid()' -c 'select count(*), md5(string_agg(i::text, $$,$$)) from generate_series(1, 100000) i'
           seq 10000 | psql -h $A -p $P -U postgres -tA -c 'create temp table t (i int)' -c '\copy t from stdin' -c 'select sum(i) from t'"#,
    ),
    other(
        "MariaDB, mariadb",
        3306,
        MARIADB,
        r#"mariadb -h $A -P $P -u lab -px -N -e 'select 6 * 7; show grants; select repeat("x", 100000)' | md5sum"#,
    ),
    other(
        "OpenSSH, ssh and sftp",
        22,
        SSHD,
        r#"printf '#!/bin/sh\necho x\n' > /tmp/ask && chmod 755 /tmp/ask
           export SSH_ASKPASS=/tmp/ask SSH_ASKPASS_REQUIRE=force; o="-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
           seq 1000 | ssh $o -p $P root@$A 'cat | md5sum; exit 3' || echo $?
           echo 'get /etc/hostname /tmp/got' | sftp $o -o BatchMode=no -b - -P $P root@$A >/dev/null 2>&1; test -s /tmp/got && echo got"#,
    ),
    Program {
        has_range: true,
        ..other(
            "vsftpd with a range of ports, curl",
            21,
            FTP,
            r#"curl -sS --ftp-skip-pasv-ip ftp://lab:x@$A:$P/a | md5sum
               curl -sS --ftp-skip-pasv-ip -T /etc/hostname ftp://lab:x@$A:$P/b && curl -sS --ftp-skip-pasv-ip --list-only ftp://lab:x@$A:$P/"#,
        )
    },
    other(
        "SMTP of aiosmtpd, smtplib and curl",
        25,
        SMTP,
        r#"python3 - <<'END'
import os, smtplib
with smtplib.SMTP(os.environ["A"], int(os.environ["P"]), timeout=10) as server:
    print(server.ehlo()[0], server.sendmail("a@a", ["b@b"], "Subject: x\n\n" + "line\n" * 10000))
END
printf 'Subject: x\n\nhello\n' | curl -sS smtp://$A:$P --mail-from a@a --mail-rcpt b@b -T - && echo sent"#,
    ),
    other(
        "mosquitto, mosquitto_sub and mosquitto_pub",
        1883,
        "printf 'listener 1883 0.0.0.0\nallow_anonymous true\n' > /m.conf && exec mosquitto -c /m.conf",
        r#"mosquitto_sub -h $A -p $P -t t -C 20 -W 10 > /tmp/heard & sleep 0.7
           seq 20 | mosquitto_pub -h $A -p $P -t t -q 1 -l && wait && md5sum < /tmp/heard"#,
    ),
    other(
        "slapd, ldapsearch and ldapadd",
        389,
        LDAP,
        r#"name=n$RANDOM; printf "dn: o=$name,dc=lab\nobjectClass: organization\no: $name\n" | ldapadd -x -H ldap://$A:$P -D cn=admin,dc=lab -w x | sed 's/o=n[0-9]*/o=/'
           ldapsearch -x -LLL -H ldap://$A:$P -b dc=lab -s base o"#,
    ),
    other(
        "memcached, netcat",
        11211,
        "exec memcached -u nobody -l 0.0.0.0",
        r#"printf 'set a 0 60 5\r\nhello\r\nget a\r\nquit\r\n' | nc $A $P"#,
    ),
    other(
        "iperf3, iperf3",
        5201,
        "exec iperf3 -s >/dev/null",
        r#"iperf3 -c $A -p $P -n 50M -P 2 >/tmp/iperf && iperf3 -c $A -p $P -n 50M -R >/tmp/iperf && grep -o 'iperf Done' /tmp/iperf"#,
    ),
    other(
        "rsyncd, rsync",
        873,
        "mkdir /data && seq 100000 > /data/a && printf '[data]\npath=/data\n' > /r.conf && exec rsync --daemon --no-detach --config=/r.conf",
        "rm -rf /tmp/rsync && rsync -a rsync://$A:$P/data/ /tmp/rsync && md5sum < /tmp/rsync/a",
    ),
    other(
        "git's daemon, git",
        9418,
        "git init -q /git/repository && cd /git/repository && seq 10000 > a && git add a && git -c user.name=a -c user.email=a@a commit -qm a && exec git daemon --export-all --base-path=/git /git",
        "rm -rf /tmp/git && git clone -q git://$A:$P/repository /tmp/git && md5sum < /tmp/git/a",
    ),
    other(
        "dnsmasq, dig over TCP",
        53,
        "exec dnsmasq -k -C /dev/null --no-resolv --no-hosts --address=/lab/10.1.2.3 --user=root",
        "dig +short +tcp +tries=1 @$A -p $P a.lab b.lab",
    ),
    other(
        "nginx with TLS, curl and openssl",
        443,
        TLS,
        r#"curl -sSk https://$A:$P/; curl -sSk --http1.1 https://$A:$P/
           printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -quiet -connect $A:$P 2>/dev/null | tail -n 1; curl -sS http://$A:$P/ | grep -c 400"#,
    ),
    Program {
        then: "sleep 1; sort -u /log | wc -l; : > /log",
        ..other(
            "rsyslog, logger and netcat",
            514,
            SYSLOG,
            r#"for n in $(seq 200); do printf '<14>Jan  1 00:00:00 a b: short %s\n' $n | nc -N $A $P; done
               for n in $(seq 50); do logger -n $A -P $P -T --rfc3164 "logged $n"; done; echo sent"#,
        )
    },
    Program {
        then: "sleep 1; sort -u /log | wc -l; : > /log",
        ..other(
            "socat, 200 short lines",
            7,
            "touch /log && exec socat -u TCP-LISTEN:7,fork,reuseaddr,backlog=256 OPEN:/log,append",
            r#"for n in $(seq 200); do exec 3<>/dev/tcp/$A/$P && echo "line $n" >&3 && exec 3>&-; done; echo sent"#,
        )
    },
];
