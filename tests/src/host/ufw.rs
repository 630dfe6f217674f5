//! Debian's ufw, as it comes, in the host's own file system.

use super::Host;
use crate::parts;

/// What the package's installation does, without its service; `$1` is where it was unpacked.
const INSTALL: &str = r"
set -e
mount -t overlay -o lowerdir=$1/usr:/usr overlay /usr
cp -r $1/etc/ufw /etc/
cp $1/etc/default/ufw /etc/default/
cp /usr/share/ufw/iptables/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/
chmod 640 /etc/ufw/*.rules /etc/ufw/*.init
";

impl Host {
    /// Installs ufw, which is off until it is enabled.
    #[track_caller]
    pub fn install_ufw(&self) {
        self.namespace().run("sh", &["-c", INSTALL, "install", &parts::ufw().display().to_string()]);
    }
}
