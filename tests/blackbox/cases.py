"""What is probed with which module: one line a case. Every target is a server of the lab."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True)
class Case:
    """One probe. `since`: the first of the two versions that knows the module; `slow`: the phase that waits."""

    module: str
    target: str
    since: str = "0.23"
    slow: str = ""
    hostname: str = ""
    scrape_timeout: str = ""

    @property
    def name(self) -> str:
        options = {"hostname": self.hostname, "scrape_timeout": self.scrape_timeout}
        return " ".join((self.module, self.target, *(f"{key}={value}" for key, value in options.items() if value)))

    @property
    def path(self) -> str:
        """The request for it."""
        query = {"module": self.module, "target": self.target}
        if self.hostname:
            query["hostname"] = self.hostname
        return "/probe?" + urlencode(query)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Prometheus-Scrape-Timeout-Seconds": self.scrape_timeout} if self.scrape_timeout else {}


def _cases(table: str, since: str) -> list[Case]:
    cases = []
    for line in table.split("\n"):
        if line.strip():
            module, target, *options = shlex.split(line)
            given = dict(option.split("=", 1) for option in options)
            cases.append(Case(module, target.replace("HTTP/", "http://127.0.0.1:8080/"), since=since, **given))
    return cases


# HTTP/x is http://127.0.0.1:8080/x; LAB is the lab's directory.
CASES = _cases(
    """
    http_2xx_example HTTP/ok
    http_2xx_example HTTP/database
    http_2xx_example HTTP/headers
    http_2xx_example localhost:8080/
    http_2xx_example [::1]:8080
    http_with_proxy http://unknown.example/page
    http_with_proxy http://unknown.example:81/page?q=1
    http_post_2xx HTTP/echo
    http_post_2xx HTTP/temporary
    http_post_2xx HTTP/see-other
    http_post_2xx HTTP/moved
    http_basic_auth_example HTTP/needs-password
    http_basic_auth_example HTTP/host
    http_custom_ca_example https://good.example:8443/
    http_custom_ca_example https://127.0.0.1:8443/
    http_custom_ca_example https://[::1]:8443/
    http_custom_ca_example https://good.example:8444/
    http_custom_ca_example https://good.example:8445/
    http_custom_ca_example https://good.example:8446/
    http_custom_ca_example https://good.example:8447/
    http_custom_ca_example https://good.example:8448/
    http_custom_ca_example https://good.example:8449/
    http_custom_ca_example https://good.example:8450/
    http_custom_ca_example https://good.example:8451/
    http_custom_ca_example https://good.example:8452/
    http_custom_ca_example https://good.example:8453/
    http_custom_ca_example https://good.example:8454/
    http_custom_ca_example HTTPS://good.example:8443/
    http_custom_ca_example https://GOOD.example:8443/
    http_custom_ca_example https://good.example.:8443/
    http_custom_ca_example https://good.example:8455/
    http_custom_ca_example https://good.example:8456/
    http_custom_ca_example https://www.good.example:8457/
    http_custom_ca_example https://good.example:8457/
    http_custom_ca_example https://a.b.good.example:8457/
    http_custom_ca_example https://good.example:8458/
    http_custom_ca_example https://good.example:8459/
    http_custom_ca_example https://good.example:8460/
    http_custom_ca_example https://127.0.0.1:7002/
    http_custom_ca_example https://127.0.0.1:7004/
    http_custom_ca_example HTTP/to-tls
    http_custom_ca_example HTTP/to-wrong-tls
    http_gzip HTTP/gzip
    http_gzip HTTP/ok
    http_gzip HTTP/not-gzip
    http_gzip HTTP/short-gzip
    http_gzip HTTP/two-gzips
    http_gzip HTTP/echo
    http_gzip_with_accept_encoding HTTP/gzip
    http_gzip_with_accept_encoding HTTP/echo
    tls_connect good.example:8443
    tls_connect 127.0.0.1:8443
    tls_connect good.example:8444
    tls_connect good.example:8445
    tls_connect good.example:8446
    tls_connect good.example:8447
    tls_connect good.example:8449
    tls_connect good.example:8450
    tls_connect good.example:8451
    tls_connect 127.0.0.1:7001
    tls_connect 127.0.0.1:8446 hostname=elsewhere.example
    tls_connect 127.0.0.1:8446 hostname=good.example
    tcp_connect_example 127.0.0.1:7001
    tcp_connect_example [::1]:7001
    tcp_connect_example good.example:7001
    tcp_connect_example 127.0.0.1:8099
    tcp_connect_example 127.0.0.1
    tcp_connect_example nowhere.example:7001
    tcp_connect_example 127.0.0.1:http-alt
    tcp_connect_example 127.0.0.1:99999
    imap_starttls good.example:1143
    smtp_starttls good.example:2525
    smtp_starttls 127.0.0.1:2525
    smtp_starttls good.example:2526
    irc_banner_example 127.0.0.1:7008
    icmp_example 127.0.0.1
    icmp_example localhost
    dns_udp_example 127.0.0.1:5301
    dns_soa 127.0.0.1:5301
    dns_tcp_example 127.0.0.1:5301
    dns_tcp_example good.example:5301

    http_2xx HTTP/ok
    http_2xx 127.0.0.1:8080/ok
    http_2xx 127.0.0.1:8080
    http_2xx HTTP/target?q=a%20b&c=%C3%A9;+~#part
    http_2xx HTTP/target?조선=a|b
    http_2xx 127.0.0.1:8080/target?x=http://y/../z
    http_2xx HTTP/created
    http_2xx HTTP/no-content
    http_2xx HTTP/not-modified
    http_2xx HTTP/moved
    http_2xx HTTP/see-other
    http_2xx HTTP/temporary
    http_2xx HTTP/permanent
    http_2xx HTTP/no-location
    http_2xx HTTP/loop
    http_2xx HTTP/chain/5
    http_2xx HTTP/chain/9
    http_2xx HTTP/chain/10
    http_2xx HTTP/chain/11
    http_2xx HTTP/to-name
    http_2xx HTTP/to-nowhere
    http_2xx HTTP/to-refused
    http_2xx HTTP/to-tls
    http_2xx HTTP/to-ftp
    http_2xx HTTP/to-echo
    http_2xx HTTP/to-page
    http_2xx HTTP/to-query
    http_2xx HTTP/to-host
    http_2xx HTTP/to-root
    http_2xx HTTP/to-space
    http_2xx HTTP/to-latin
    http_2xx HTTP/to-fragment
    http_2xx HTTP/to-nothing
    http_2xx HTTP/to-nonsense
    http_2xx HTTP/choices
    http_2xx HTTP/use-proxy
    http_2xx HTTP/long-header
    http_2xx HTTP/many-headers
    http_2xx HTTP/huge
    http_2xx HTTP/agent
    http_2xx http://user:secret@127.0.0.1:8080/to-echo
    http_2xx http://user:secret@127.0.0.1:8080/to-echo-here
    http_2xx HTTP/set-cookie
    http_2xx HTTP/missing
    http_2xx HTTP/unauthorized
    http_2xx HTTP/error
    http_2xx HTTP/odd-status
    http_2xx HTTP/status-999
    http_2xx HTTP/no-reason
    http_2xx HTTP/http10
    http_2xx HTTP/until-close
    http_2xx HTTP/chunked
    http_2xx HTTP/trailers
    http_2xx HTTP/early-hints
    http_2xx HTTP/gzip
    http_2xx HTTP/big
    http_2xx HTTP/cut
    http_2xx HTTP/cut-chunked
    http_2xx HTTP/too-long
    http_2xx HTTP/garbage
    http_2xx HTTP/nothing
    http_2xx HTTP/half-head
    http_2xx HTTP/bad-header
    http_2xx HTTP/bad-length
    http_2xx HTTP/two-lengths
    http_2xx HTTP/reset
    http_2xx HTTP/headers
    http_2xx HTTP/modified
    http_2xx HTTP/modified-rfc850
    http_2xx HTTP/modified-asctime
    http_2xx HTTP/modified-badly
    http_2xx HTTP/echo
    http_2xx HTTP/host
    http_2xx HTTP/host hostname=vhost.example
    http_2xx http://user:secret@127.0.0.1:8080/echo
    http_2xx HTTP/slow slow=processing
    http_2xx HTTP/slow-body slow=transfer
    http_2xx HTTP/to-slow slow=processing
    http_2xx HTTP/silent scrape_timeout=0.9
    http_impatient HTTP/silent scrape_timeout=0.3
    http_impatient HTTP/silent scrape_timeout=0
    http_impatient HTTP/silent scrape_timeout=10
    http_2xx http://127.0.0.1:8099/
    http_2xx http://nowhere.example:8080/
    http_2xx http://both.example:8080/ok
    http_2xx http://only4.example:8080/ok
    http_2xx http://only6.example:8080/ok
    http_2xx https://good.example:8443/
    http_2xx http://GOOD.Example:8080/host
    http_2xx http://good.example.:8080/host
    http_2xx http://under_score.example:8080/host
    http_2xx http://münchen.example:8080/host
    http_2xx http://127.1:8080/ok
    http_2xx http://2130706433:8080/ok
    http_2xx ftp://127.0.0.1/
    http_2xx http://
    http_2xx http:///ok
    http_2xx //127.0.0.1:8080/ok
    http_2xx http://127.0.0.1:8080#part
    http_2xx http://127.0.0.1:8080?x=1
    http_2xx http://127.0.0.1:/ok
    http_2xx http://127.0.0.1:99999/ok
    http_2xx http://[::ffff:127.0.0.1]:8080/host
    http_2xx 'HTTP/ok and more'
    http_2xx http://user@127.0.0.1:8080/echo
    http_2xx http://us%20er:p%40ss@127.0.0.1:8080/echo
    http_2xx HTTP/%6fk
    http_2xx HTTP/a/../ok
    http_2xx HTTP/target?a=%zz
    http_custom_ca_example https://good.example:8461/moved
    http_custom_ca_example https://good.example:8461/missing
    http_custom_ca_example https://good.example:8461/big
    http_head_tls https://good.example:8461/big
    http_post_tls https://good.example:8461/ok
    http_post_tls https://good.example:8461/moved
    http_gzip_tls https://good.example:8461/big
    http_2xx http://127.0.0.1:port/
    http_2xx http://[::1/
    http_2xx http://127.0.0.1:8080/%zz
    http_2xx 127.0.0.1:7001
    http_impatient HTTP/silent
    http_impatient HTTP/silent-body
    http_4 http://both.example:8080/ok
    http_4 http://only6.example:8080/ok
    http_6_only http://both.example:8080/ok
    http_6_only http://only4.example:8080/ok
    http_6_only HTTP/ok
    http_4_only http://only6.example:8080/ok
    http_4_only http://[::1]:8080/ok
    http_stay HTTP/moved
    http_stay HTTP/ok
    http_stay_old HTTP/moved
    http_stay_302 HTTP/moved
    http_stay_302 HTTP/loop
    http_404_500 HTTP/missing
    http_404_500 HTTP/error
    http_404_500 HTTP/ok
    http_body HTTP/ok
    http_body HTTP/error
    http_body HTTP/created
    http_body HTTP/flood
    http_body HTTP/cut
    http_body HTTP/cut-match
    http_not_body HTTP/ok
    http_not_body HTTP/database
    http_not_body HTTP/error
    http_not_body HTTP/cut
    http_body_both HTTP/ok
    http_body_both HTTP/database
    http_body_line HTTP/lines
    http_body_multiline HTTP/lines
    http_body_case HTTP/ok
    http_body_korean HTTP/korean
    http_body_word HTTP/latin1
    http_header HTTP/headers
    http_header HTTP/ok
    http_header_missing HTTP/headers
    http_header_allowed HTTP/headers
    http_not_header HTTP/headers
    http_not_header HTTP/ok
    http_not_header_none HTTP/headers
    http_not_header_missing HTTP/headers
    http_not_header_allowed HTTP/headers
    http_not_header_latin HTTP/headers
    http_not_header_empty HTTP/headers
    http_not_header_length HTTP/ok
    http_no_ssl HTTP/ok
    http_no_ssl https://good.example:8443/
    http_only_ssl HTTP/ok
    http_only_ssl https://good.example:8443/
    http_only_ssl https://good.example:8454/
    http_head HTTP/ok
    http_head HTTP/gzip
    http_options HTTP/echo
    http_odd_method HTTP/echo
    http_post HTTP/echo
    http_post_follow HTTP/see-other
    http_post_follow HTTP/temporary
    http_get_body HTTP/echo
    http_headers HTTP/echo
    http_headers HTTP/agent
    http_headers HTTP/temporary
    http_host HTTP/host
    http_host HTTP/moved
    http_basic HTTP/needs-password
    http_basic HTTP/echo
    http_basic HTTP/temporary
    http_basic HTTP/to-echo
    http_basic HTTP/to-echo-here
    http_bearer HTTP/to-echo
    http_post_follow HTTP/to-echo
    http_headers HTTP/to-echo
    http_host HTTP/to-host
    http_basic_file HTTP/needs-password
    http_basic_wrong HTTP/needs-password
    http_bearer HTTP/needs-token
    http_bearer HTTP/temporary
    http_bearer_file HTTP/needs-token
    http_authorization HTTP/needs-token
    http_limit HTTP/ok
    http_limit HTTP/big
    http_limit_enough HTTP/big
    http_deflate HTTP/deflate
    http_deflate HTTP/zlib
    http_identity HTTP/ok
    http_identity HTTP/echo
    http_gzip_body HTTP/gzip
    http_gzip_body HTTP/short-gzip
    http_version_1 HTTP/ok
    http_version_1 HTTP/http10
    http_version_1 https://good.example:8443/
    http_version_2 https://good.example:8443/
    http_version_2 HTTP/ok
    http_no_h2 https://good.example:8443/
    http_insecure https://good.example:8444/
    http_insecure https://good.example:8445/
    http_insecure https://good.example:8446/
    http_insecure https://good.example:8448/
    http_server_name https://127.0.0.1:8446/
    http_server_name https://good.example:8443/
    http_host_tls https://127.0.0.1:8446/
    http_custom_ca_example https://127.0.0.1:8446/ hostname=elsewhere.example
    http_tls10 https://good.example:8459/
    http_tls10 https://good.example:8443/
    http_tls13 https://good.example:8443/
    http_tls13 https://good.example:8450/
    http_client_certificate https://good.example:8451/
    http_ca_missing https://good.example:8443/
    http_ca_missing HTTP/ok
    http_proxy HTTP/ok
    http_proxy https://good.example:8443/
    http_proxy https://127.0.0.1:8453/
    http_proxy https://refuse.example:8443/
    http_proxy_refused HTTP/ok

    tcp 127.0.0.1:7004
    tcp 127.0.0.1:7003
    tcp :7001
    tcp ::1:7001
    tcp [127.0.0.1]:7001
    tcp tcp://127.0.0.1:7001
    tcp 127.0.0.1:7001/path
    tcp ' 127.0.0.1:7001'
    tcp 127.0.0.1:0
    tcp 127.0.0.1:07001
    tcp 127.0.0.1:
    tcp '[::1]'
    tcp localhost:7001
    tcp both.example:7001
    tcp_impatient 127.0.0.1:7003
    tcp_impatient_tls 127.0.0.1:7003
    tcp_4 both.example:7001
    tcp_4 only6.example:7001
    tcp_4_only only6.example:7001
    tcp_source 127.0.0.1:7001
    tcp_source_foreign 127.0.0.1:7001
    tcp_banner 127.0.0.1:7001
    tcp_banner 127.0.0.1:7002
    tcp_banner 127.0.0.1:7004
    tcp_banner 127.0.0.1:7006
    tcp_third_line 127.0.0.1:7002
    tcp_no_line 127.0.0.1:7002
    tcp_end 127.0.0.1:7010
    tcp_found 127.0.0.1:7011
    tcp_found 127.0.0.1:7015
    tcp_found 127.0.0.1:7012
    tcp_korean 127.0.0.1:7012
    tcp_echo 127.0.0.1:7007
    tcp_echo_wrong 127.0.0.1:7007
    tcp_tls good.example:8443
    tcp_tls_insecure good.example:8443
    tcp_tls_insecure good.example:8444
    tcp_tls_insecure good.example:8445
    tcp_tls_insecure good.example:8449
    tcp_tls_insecure good.example:8458
    tcp_tls_insecure good.example:8460
    tcp good.example.:7001
    tcp GOOD.example:7001
    tcp_tls_name 127.0.0.1:8443
    tcp_tls_name 127.0.0.1:8446
    tcp_tls_client good.example:8451
    smtp_starttls_insecure good.example:2526

    icmp 127.0.0.1
    icmp ::1
    icmp both.example
    icmp localhost
    icmp 198.51.100.1
    icmp 2001:db8:2::1
    icmp nowhere.example
    icmp 127.0.0.1:80
    icmp http://127.0.0.1
    icmp '[::1]'
    icmp_impatient 0.0.0.0
    icmp_impatient 224.0.0.1
    icmp_4 both.example
    icmp_4 only6.example
    icmp_6_only only4.example
    icmp_payload 198.51.100.1
    icmp_payload 2001:db8:2::1
    icmp_fragments 198.51.100.1
    icmp_whole 198.51.100.1
    icmp_df 198.51.100.1
    icmp_ttl_1 198.51.100.1
    icmp_ttl_1 2001:db8:2::1
    icmp_ttl_2 198.51.100.1
    icmp_ttl_2 2001:db8:2::1
    icmp_impatient 198.51.100.77
    icmp_impatient 203.0.113.9
    icmp_impatient 198.51.100.9
    icmp_source_foreign 198.51.100.1

    dns_a 127.0.0.1:5301
    dns_a good.example:5301
    dns_a 127.0.0.1:8099
    dns_a nowhere.example
    dns_a '[::1]:5302'
    dns_silent_tcp 127.0.0.1:http-alt
    dns_tcp_cut 127.0.0.1:5302
    dns_tcp_closed 127.0.0.1:5302
    dns_aaaa 127.0.0.1:5301
    dns_mx 127.0.0.1:5301
    dns_any 127.0.0.1:5301
    dns_any_tcp 127.0.0.1:5301
    dns_any_tcp 127.0.0.1:8099
    dns_soa_lab 127.0.0.1:5301
    dns_soa_below 127.0.0.1:5301
    dns_soa_tcp 127.0.0.1:5301
    dns_nxdomain 127.0.0.1:5301
    dns_nxdomain_valid 127.0.0.1:5301
    dns_nxdomain_valid 127.0.0.1
    dns_nodata 127.0.0.1:5301
    dns_refused_valid 127.0.0.1:5301
    dns_cname 127.0.0.1:5301
    dns_chaos 127.0.0.1:5301
    dns_source 127.0.0.1:5301
    dns_servfail 127.0.0.1:5302
    dns_servfail_valid 127.0.0.1:5302
    dns_notimp 127.0.0.1:5302
    dns_formerr 127.0.0.1:5302
    dns_yxrrset 127.0.0.1:5302
    dns_nothing 127.0.0.1:5302
    dns_truncated 127.0.0.1:5302
    dns_truncated_tcp 127.0.0.1:5302
    dns_half 127.0.0.1:5302
    dns_half_validated 127.0.0.1:5302
    dns_authoritative 127.0.0.1:5302
    dns_desired 127.0.0.1:5302
    dns_not_desired 127.0.0.1:5302
    dns_other_question 127.0.0.1:5302
    dns_other_id 127.0.0.1:5302
    dns_garbage 127.0.0.1:5302
    dns_empty 127.0.0.1:5302
    dns_query 127.0.0.1:5302
    dns_lies 127.0.0.1:5302
    dns_silent 127.0.0.1:5302
    dns_silent_tcp 127.0.0.1:5302
    dns_slow 127.0.0.1:5302 slow=request
    dns_tls good.example
    dns_tls 127.0.0.1:853
    dns_tls_untrusted good.example
    dns_root 127.0.0.1:5301
    dns_upper 127.0.0.1:5301
    dns_upper_validated 127.0.0.1:5301
    dns_must_match 127.0.0.1:5301
    dns_must_match_fails 127.0.0.1:5301
    dns_must_not_match 127.0.0.1:5301
    dns_all_match 127.0.0.1:5301
    dns_not_all_match 127.0.0.1:5301
    dns_none_matches 127.0.0.1:5301
    dns_one_matches 127.0.0.1:5301
    dns_no_records 127.0.0.1:5301
    dns_no_records_must 127.0.0.1:5301
    dns_no_records_all 127.0.0.1:5301
    dns_authority 127.0.0.1:5301
    dns_authority_fails 127.0.0.1:5301
    dns_text_soa 127.0.0.1:5301
    dns_text_mx 127.0.0.1:5301
    dns_text_txt 127.0.0.1:5301
    dns_text_aaaa 127.0.0.1:5301
    dns_text_cname 127.0.0.1:5301
    dns_text_srv 127.0.0.1:5301
    dns_text_caa 127.0.0.1:5301
    dns_text_sshfp 127.0.0.1:5301
    dns_text_naptr 127.0.0.1:5301
    dns_text_https 127.0.0.1:5301
    dns_text_loc 127.0.0.1:5301
    dns_text_hinfo 127.0.0.1:5301
    dns_text_tlsa 127.0.0.1:5301
    dns_text_ds 127.0.0.1:5301

    grpc_bare 127.0.0.1:9001
    grpc_bare [::1]:9001
    grpc 127.0.0.1:9001
    grpc good.example:9001
    grpc [::1]:9001
    grpc 127.0.0.1:9002
    grpc 127.0.0.1:9003
    grpc 127.0.0.1:9004
    grpc 127.0.0.1:8099
    grpc 127.0.0.1:7001
    grpc nowhere.example:9001
    grpc 127.0.0.1:8080
    grpc 127.0.0.1:7004
    grpc 127.0.0.1:9006
    grpc 127.0.0.1:9007
    grpc 127.0.0.1:9008
    grpc http://127.0.0.1:9001/path
    grpc_tls good.example:8453
    grpc_tls good.example:8443
    grpc_tls good.example:8444
    grpc_service good.example:9001
    grpc_tls good.example:9005
    grpc_tls 127.0.0.1:9001
    grpc_tls_untrusted good.example:9005
    """,
    "0.23",
) + _cases(
    """
    http_with_proxy_and_headers http://unknown.example/page
    http_with_proxy_and_headers HTTP/ok
    http_post_body_file HTTP/echo
    http_json_cel_match HTTP/json
    http_json_cel_match HTTP/json-missing
    http_2xx_oauth_client_credentials HTTP/needs-token
    http_2xx_oauth_client_credentials HTTP/temporary
    rabbitmq good.example:5671
    rabbitmq_insecure 127.0.0.1:5671
    unix_socket_ping LAB/ping.sock
    unix_socket_ping LAB/nowhere.sock
    postgresql good.example:5432
    postgresql good.example:5433
    http_with_header_from_files HTTP/echo
    cel_match HTTP/json
    cel_no_match HTTP/json
    cel_not_match HTTP/json
    cel_number HTTP/json
    cel_number_double HTTP/json
    cel_number_type HTTP/json
    cel_arithmetic HTTP/json
    cel_arithmetic_mixed HTTP/json
    cel_missing HTTP/json
    cel_missing_match HTTP/json
    cel_has HTTP/json
    cel_in HTTP/json
    cel_deep HTTP/json
    cel_null HTTP/json
    cel_macro HTTP/json
    cel_regex HTTP/json
    cel_string HTTP/json
    cel_not_bool HTTP/json
    cel_not_bool_match HTTP/json
    cel_short_circuit HTTP/json
    cel_list HTTP/json-list
    cel_ternary HTTP/json
    cel_list_equal HTTP/json
    cel_index HTTP/json
    cel_concat HTTP/json
    cel_double HTTP/json
    cel_time HTTP/json
    cel_map_equal HTTP/json
    cel_exists_one HTTP/json
    cel_filter HTTP/json
    cel_types HTTP/json
    cel_in_ints HTTP/json
    cel_division HTTP/json
    cel_missing_deep HTTP/json
    cel_has_deep HTTP/json
    cel_unicode HTTP/json
    cel_or_error HTTP/json
    cel_and_error HTTP/json
    cel_bad_regex HTTP/json
    cel_compare_types HTTP/json
    cel_string_number HTTP/json
    cel_both HTTP/json
    cel_and_regex HTTP/json
    cel_after_regex HTTP/json
    cel_match HTTP/json-broken
    cel_no_match HTTP/json-broken
    cel_not_match HTTP/json-broken
    cel_not_match HTTP/ok
    cel_match HTTP/json-more
    cel_not_match HTTP/json-missing
    cel_not_match HTTP/no-content
    http_brotli HTTP/ok
    http_more_headers HTTP/echo
    http_authorization_custom HTTP/echo
    http_proxy_no HTTP/ok
    oauth2_wrong HTTP/ok
    oauth2_scopes HTTP/needs-token
    tcp_labels 127.0.0.1:7001
    tcp_labels_missing 127.0.0.1:7001
    tcp_labels_no_match 127.0.0.1:7001
    tcp_bytes 127.0.0.1:7013
    tcp_bytes_wrong 127.0.0.1:7013
    tcp_bytes_few 127.0.0.1:7014
    tcp_bytes_then 127.0.0.1:7013
    unix LAB/ping.sock
    unix LAB/nowhere.sock
    unix_wrong LAB/ping.sock
    unix_tls LAB/tls.sock
    unix_tls_unnamed LAB/tls.sock
    grpc_metadata 127.0.0.1:9001
    """,
    "0.28",
)
