#include "vif/netdev.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <time.h>

/* Room for any request here: names and a few numbers. */
#define REQUEST_SIZE 512

struct request {
    _Alignas(struct nlmsghdr) char bytes[REQUEST_SIZE];
    struct nlmsghdr *header;
    struct ifinfomsg *link;
};

static void request_init(struct request *r, uint16_t type, uint16_t flags)
{
    r->header = mnl_nlmsg_put_header(r->bytes);
    r->header->nlmsg_type = type;
    r->header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    r->header->nlmsg_seq = (uint32_t)time(NULL);
    r->link = mnl_nlmsg_put_extra_header(r->header, sizeof(*r->link));
    r->link->ifi_family = AF_UNSPEC;
}

static void socket_freep(struct mnl_socket **p)
{
    if (*p) {
        mnl_socket_close(*p);
    }
}

/* Sends the request and waits for its acknowledgement; 0 or an errno. */
static int request_run(const struct request *r)
{
    CLEANUP(socket_freep) struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    char answer[8192];
    ssize_t n;

    if (!s || mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_sendto(s, r->header, r->header->nlmsg_len) < 0) {
        return errno;
    }
    do {
        n = mnl_socket_recvfrom(s, answer, sizeof(answer));
    } while (n < 0 && errno == EINTR);
    if (n < 0 || mnl_cb_run(answer, (size_t)n, r->header->nlmsg_seq, mnl_socket_get_portid(s),
                            /* cb_data= */ NULL, NULL) < 0) {
        return errno;
    }
    return 0;
}

static struct err *check_name(const char *name)
{
    if (*name == '\0' || strlen(name) >= IFNAMSIZ) {
        return err_msg(ERR_INTERNAL, "'%s' cannot be the name of a network device", name);
    }
    return NULL;
}

bool netdev_exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

struct err *netdev_add_bridge(const char *name)
{
    struct request r;
    struct nlattr *info, *data;
    int errnum;

    TRY(check_name(name));
    request_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    mnl_attr_put_strz(r.header, IFLA_IFNAME, name);
    info = mnl_attr_nest_start(r.header, IFLA_LINKINFO);
    mnl_attr_put_str(r.header, IFLA_INFO_KIND, "bridge");
    data = mnl_attr_nest_start(r.header, IFLA_INFO_DATA);
    /* Without ageing it floods: a guest's packets are not lost while it moves (bug 1715317). */
    mnl_attr_put_u32(r.header, IFLA_BR_AGEING_TIME, 0);
    mnl_attr_put_u32(r.header, IFLA_BR_FORWARD_DELAY, 0);
    mnl_attr_put_u32(r.header, IFLA_BR_STP_STATE, 0);
    mnl_attr_put_u8(r.header, IFLA_BR_MCAST_SNOOPING, 0);
    mnl_attr_nest_end(r.header, data);
    mnl_attr_nest_end(r.header, info);
    errnum = request_run(&r);
    return errnum == 0 || errnum == EEXIST ? NULL : err_errno(errnum, "making bridge %s", name);
}

struct err *netdev_add_veth(const char *name, const char *peer)
{
    struct request r;
    struct nlattr *info, *data, *peer_info;
    int errnum;

    TRY(check_name(name));
    TRY(check_name(peer));
    TRY(netdev_delete(name));
    TRY(netdev_delete(peer));
    request_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    mnl_attr_put_strz(r.header, IFLA_IFNAME, name);
    info = mnl_attr_nest_start(r.header, IFLA_LINKINFO);
    mnl_attr_put_str(r.header, IFLA_INFO_KIND, "veth");
    data = mnl_attr_nest_start(r.header, IFLA_INFO_DATA);
    peer_info = mnl_attr_nest_start(r.header, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(r.header, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(r.header, IFLA_IFNAME, peer);
    mnl_attr_nest_end(r.header, peer_info);
    mnl_attr_nest_end(r.header, data);
    mnl_attr_nest_end(r.header, info);
    errnum = request_run(&r);
    return errnum ? err_errno(errnum, "making veth pair %s, %s", name, peer) : NULL;
}

struct err *netdev_delete(const char *name)
{
    struct request r;
    int errnum;

    request_init(&r, RTM_DELLINK, 0);
    r.link->ifi_index = (int)if_nametoindex(name);
    if (r.link->ifi_index == 0) {
        return NULL;
    }
    errnum = request_run(&r);
    return errnum == 0 || errnum == ENODEV ? NULL
                                           : err_errno(errnum, "deleting network device %s", name);
}

static struct err *request_init_set(struct request *r, const char *name)
{
    request_init(r, RTM_SETLINK, 0);
    r->link->ifi_index = (int)if_nametoindex(name);
    return r->link->ifi_index ? NULL
                              : err_msg(ERR_NOT_FOUND, "network device %s does not exist", name);
}

static struct err *set_flag(const char *name, unsigned flag, bool is_on)
{
    struct request r;
    int errnum;

    TRY(request_init_set(&r, name));
    r.link->ifi_change = flag;
    r.link->ifi_flags = is_on ? flag : 0;
    errnum = request_run(&r);
    return errnum ? err_errno(errnum, "setting flags of network device %s", name) : NULL;
}

struct err *netdev_set_up(const char *name, bool is_up)
{
    return set_flag(name, IFF_UP, is_up);
}

struct err *netdev_set_promisc(const char *name)
{
    return set_flag(name, IFF_PROMISC, /* is_on= */ true);
}

static struct err *set_number(const char *name, uint16_t attr, uint32_t value, const char *what)
{
    struct request r;
    int errnum;

    TRY(request_init_set(&r, name));
    mnl_attr_put_u32(r.header, attr, value);
    errnum = request_run(&r);
    return errnum ? err_errno(errnum, "setting the %s of network device %s", what, name) : NULL;
}

struct err *netdev_set_mtu(const char *name, int64_t mtu)
{
    if (mtu <= 0 || mtu > UINT16_MAX) {
        return err_msg(ERR_INTERNAL, "%lld is no MTU for network device %s", (long long)mtu, name);
    }
    return set_number(name, IFLA_MTU, (uint32_t)mtu, "MTU");
}

struct err *netdev_set_master(const char *name, const char *bridge)
{
    unsigned index = if_nametoindex(bridge);

    if (index == 0) {
        return err_msg(ERR_NOT_FOUND, "bridge %s does not exist", bridge);
    }
    return set_number(name, IFLA_MASTER, index, "bridge");
}
