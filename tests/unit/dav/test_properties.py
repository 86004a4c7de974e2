"""Properties: which a request gets, and that dead ones come back as they were given, whatever they are and wherever they go."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.dav_client import Answer, DavClient

D = "{DAV:}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
LIVE_OF_FILES = {
    "resourcetype", "getcontentlength", "getcontenttype", "getetag", "getlastmodified", "creationdate", "displayname",
    "lockdiscovery", "supportedlock",
}  # fmt: skip
LIVE_OF_COLLECTIONS = LIVE_OF_FILES - {"getcontentlength", "getcontenttype"}


def patch(dav: DavClient, path: str, *elements: str, remove: bool = False) -> Answer:
    what = "remove" if remove else "set"
    props = "".join(f"<D:{what}><D:prop>{element}</D:prop></D:{what}>" for element in elements)
    return dav("PROPPATCH", path, f'<D:propertyupdate xmlns:D="DAV:">{props}</D:propertyupdate>')


def find(dav: DavClient, path: str, inner: str, depth: str = "0") -> Answer:
    return dav("PROPFIND", path, f'<D:propfind xmlns:D="DAV:">{inner}</D:propfind>', Depth=depth)


def given(answer: Answer, href: str) -> dict[str, Any]:
    """The properties that an answer reports with 200, by Clark name."""
    found: dict[str, Any] = {}
    for response in answer.xml.findall(f"{D}response"):
        if response.findtext(f"{D}href") == href:
            for propstat in response.findall(f"{D}propstat"):
                if " 200 " in propstat.findtext(f"{D}status"):
                    found.update({element.tag: element for element in propstat.find(f"{D}prop")})
    return found


def same(one: Any, two: Any) -> bool:
    """Whether two elements say the same: tags, attributes, text, and all below."""
    return (
        (one.tag, one.attrib, one.text or "") == (two.tag, two.attrib, two.text or "")
        and len(one) == len(two)
        and all(same(a, b) and (a.tail or "") == (b.tail or "") for a, b in zip(one, two, strict=True))
    )


@pytest.mark.parametrize(
    "element",
    [
        '<a xmlns="http://example.org/ns"/>',
        '<a xmlns="http://example.org/ns">text</a>',
        "<a xmlns=''>no namespace</a>",
        '<x:a xmlns:x="DAV:">in the namespace of WebDAV itself, not live</x:a>',
        '<p:a xmlns:p="urn:p" xmlns:q="urn:q" q:r="1" s="&lt;&amp;&quot;"><q:b p:c="2"/>mixed <q:b>text</q:b> tail</p:a>',
        '<a xmlns="urn:x" xml:lang="de">\u00e9\u20ac\U0001f600 &lt;tag&gt; &amp; "quotes"</a>',
        '<a xmlns="urn:x"><![CDATA[<not> & elements]]></a>',
        '<a xmlns="urn:x">  blanks\n\tand lines  </a>',
        '<a xmlns="urn:x"><!-- a comment --><b/></a>',
        '<Win32FileAttributesLike xmlns="urn:schemas-microsoft-com:office">00000020</Win32FileAttributesLike>',
        '<executable xmlns="http://apache.org/dav/props/">T</executable>',
        '<a.b-c_d xmlns="a b%20c/\u00e9?x=1&amp;y#z">odd namespace</a.b-c_d>',
        '<a xmlns="urn:x">' + "<b>" * 50 + "deep" + "</b>" * 50 + "</a>",
        '<a xmlns="urn:x">' + "x" * (64 * 1024) + "</a>",
        '<a xmlns="urn:x">' + "\u20ac" * (100 * 1024) + "</a>",
    ],
    ids=lambda element: element[:40],
)
@pytest.mark.parametrize("kind", ["file", "collection"])
def test_dead_properties_come_back_as_they_were_given(dav: DavClient, element, kind):
    path = "/f" if kind == "file" else "/d"
    href = "/demo/f" if kind == "file" else "/demo/d/"
    assert dav("PUT" if kind == "file" else "MKCOL", path).status == 201
    wanted = ElementTree.fromstring(element)
    assert b" 200 OK" in patch(dav, path, element).body
    name = f"<x:{wanted.tag.rpartition('}')[2]} xmlns:x=\"{_namespace(element)}\"/>" if wanted.tag.startswith("{") else None
    for answer in (
        find(dav, path, "<D:allprop/>"),
        dav("PROPFIND", "/", Depth="1"),
        *([find(dav, path, f"<D:prop>{name}</D:prop>")] if name else []),
    ):
        assert same(given(answer, href)[wanted.tag], wanted)
    assert wanted.tag in given(find(dav, path, "<D:propname/>"), href)
    target = path + "2"
    assert dav("COPY", path, Destination=f"/demo{target}").status == 201
    assert dav("MOVE", path, Destination=f"/demo{path}3").status == 201
    for moved in (target, path + "3"):
        slash = "/" if kind == "collection" else ""
        assert same(given(dav("PROPFIND", moved, Depth="0"), f"/demo{moved}{slash}")[wanted.tag], wanted)


def _namespace(element: str) -> str:
    parsed = ElementTree.fromstring(element).tag[1:].partition("}")[0]
    return parsed.replace("&", "&amp;")


def test_copies_have_properties_of_their_own(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/d/f", b"1").status == 201
    for path in ("/d", "/d/f"):
        assert patch(dav, path, '<a xmlns="urn:x">old</a>').status == 207
    assert dav("COPY", "/d", Destination="/demo/e").status == 201
    for path in ("/d", "/d/f"):
        assert patch(dav, path, '<a xmlns="urn:x">new</a>').status == 207
    assert patch(dav, "/e/f", '<a xmlns="urn:x"/>', remove=True).status == 207
    assert given(dav("PROPFIND", "/e", Depth="0"), "/demo/e/")["{urn:x}a"].text == "old"
    assert "{urn:x}a" not in given(dav("PROPFIND", "/e/f", Depth="0"), "/demo/e/f")
    assert given(dav("PROPFIND", "/d/f", Depth="0"), "/demo/d/f")["{urn:x}a"].text == "new"
    # what is overwritten takes its properties with it; a PUT keeps them
    assert dav("PUT", "/g", b"2").status == 201
    assert dav("COPY", "/g", Destination="/demo/d/f").status == 204
    assert "{urn:x}a" not in given(dav("PROPFIND", "/d/f", Depth="0"), "/demo/d/f")
    assert patch(dav, "/g", '<a xmlns="urn:x">kept</a>').status == 207
    assert dav("PUT", "/g", b"3").status == 204
    assert given(dav("PROPFIND", "/g", Depth="0"), "/demo/g")["{urn:x}a"].text == "kept"


def test_which_properties_are_given(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/f.txt", b"123", OC_Checksum="ADLER32:12d0097").status == 201
    assert patch(dav, "/f.txt", '<a xmlns="urn:x">1</a>').status == 207
    live_of_file = {D + name for name in LIVE_OF_FILES}
    live_of_collection = {D + name for name in LIVE_OF_COLLECTIONS}
    for body in ("", "<D:allprop/>"):
        answer = find(dav, "/", body, "1") if body else dav("PROPFIND", "/", Depth="1")
        assert set(given(answer, "/demo/f.txt")) == {*live_of_file, "{urn:x}a"}
        assert set(given(answer, "/demo/d/")) == set(given(answer, "/demo/")) == live_of_collection
        assert b"404" not in answer.body
    quota = {D + "quota-used-bytes", D + "quota-available-bytes"}  # Node's webdav asks for them so
    alone = dav("PROPFIND", "/d", Depth="0")
    assert set(given(alone, "/demo/d/")) == live_of_collection | quota
    assert set(given(find(dav, "/d", "<D:allprop/>"), "/demo/d/")) == live_of_collection
    assert set(given(dav("PROPFIND", "/f.txt", Depth="0"), "/demo/f.txt")) == {*live_of_file, "{urn:x}a"}
    include = "<D:allprop/><D:include><D:quota-used-bytes/><D:sync-token/><o:checksums xmlns:o='http://owncloud.org/ns'/></D:include>"
    answer = find(dav, "/", include, "1")
    assert {D + "quota-used-bytes", D + "sync-token"} <= set(given(answer, "/demo/d/"))
    assert set(given(answer, "/demo/f.txt")) == {*live_of_file, "{urn:x}a", "{http://owncloud.org/ns}checksums"}
    names = find(dav, "/", "<D:propname/>", "1")
    of_file, of_collection = given(names, "/demo/f.txt"), given(names, "/demo/d/")
    assert live_of_file | {"{urn:x}a", "{http://owncloud.org/ns}checksums", D + "supported-report-set"} == set(of_file)
    assert of_collection.keys() >= live_of_collection | {
        D + "quota-used-bytes", D + "quota-available-bytes", D + "sync-token", D + "supported-report-set",
        "{http://calendarserver.org/ns/}getctag",
    }  # fmt: skip
    assert all(not len(element) and not element.text for element in [*of_file.values(), *of_collection.values()])
    asked = "".join(f"<{name.replace(D, 'D:')}/>" for name in sorted(of_collection) if name.startswith(D))
    found = given(find(dav, "/d", f"<D:prop>{asked}</D:prop>"), "/demo/d/")
    assert set(found) == {name for name in of_collection if name.startswith(D)}  # what is named is also given


def test_what_is_asked_for_twice_or_is_not_there(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    answer = find(dav, "/f", "<D:prop><D:getetag/><D:getetag/><D:nothing/><x:none xmlns:x='urn:x'/></D:prop>")
    statuses = {
        propstat.findtext(f"{D}status").split()[1]: [element.tag for element in propstat.find(f"{D}prop")]
        for propstat in answer.xml.iter(f"{D}propstat")
    }
    assert statuses == {"200": [D + "getetag"], "404": [D + "nothing", "{urn:x}none"]}
    for inner in ("<D:prop/><D:allprop/>", "", "<D:propname/><D:prop><D:getetag/></D:prop>"):
        assert find(dav, "/f", inner).status == 400


def test_many_properties(dav: DavClient):
    """A hundred at once, in one change; then half of them go."""
    assert dav("PUT", "/f", b"").status == 201
    elements = [f'<p{n} xmlns="urn:many">value {n}</p{n}>' for n in range(100)]
    assert patch(dav, "/f", *elements).status == 207
    assert patch(dav, "/f", *(f'<p{n} xmlns="urn:many"/>' for n in range(0, 100, 2)), remove=True).status == 207
    found = {name: e.text for name, e in given(dav("PROPFIND", "/f", Depth="0"), "/demo/f").items() if "urn:many" in name}
    assert found == {f"{{urn:many}}p{n}": f"value {n}" for n in range(1, 100, 2)}
    large = '<a xmlns="urn:x">' + "x" * (1 << 20) + "</a>"
    assert patch(dav, "/f", large).status == 413


def test_the_text_of_a_property_is_kept(dav: DavClient):
    """Prefixes, quotes and comments too: some clients find their own properties by them."""
    body = (
        b'<?xml version="1.0" encoding="utf-8"?>\n<D:propertyupdate xmlns:D="DAV:" xmlns:z="urn:z" xmlns="urn:default"><D:set>'
        b"<D:prop xml:lang='fr'><z:one z:k='1>0' b=\"2\"><!-- why --><other/>\xc3\xa9&#233;<![CDATA[<]]></z:one><two/>"
        b'<n:three xmlns:n="urn:n"/></D:prop></D:set></D:propertyupdate>'
    )
    assert dav("PUT", "/f", b"").status == 201
    assert b"200 OK" in dav("PROPPATCH", "/f", body).body
    found = dav("PROPFIND", "/f", Depth="0").body.decode()
    for text in (
        '<z:one xml:lang="fr" xmlns="urn:default" xmlns:z="urn:z" z:k=\'1>0\' b="2"><!-- why --><other/>'
        "\u00e9&#233;<![CDATA[<]]></z:one>",
        '<two xml:lang="fr" xmlns="urn:default"/>',
        '<n:three xml:lang="fr" xmlns:n="urn:n"/>',
    ):
        assert text in found
    utf16 = body.decode().replace("utf-8", "utf-16").encode("utf-16")
    assert b"200 OK" in dav("PROPPATCH", "/f", utf16).body
    assert given(dav("PROPFIND", "/f", Depth="0"), "/demo/f")["{urn:default}two"].get(LANG) == "fr"
