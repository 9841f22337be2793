use super::*;
use proptest::prelude::*;

fn get(bytes: &[u8], media: Media) -> Document {
    extract(bytes, Some(media), &Limits::default()).unwrap()
}

fn refusal(bytes: &[u8], media: Option<Media>, limits: &Limits) -> (Code, String) {
    let e = extract(bytes, media, limits).unwrap_err();
    (e.code, e.message)
}

fn outline(d: &Document) -> Vec<(u8, &str, &str)> {
    d.sections.iter().map(|s| (s.level, s.heading.as_str(), &d.text[s.span.clone()])).collect()
}

/// A PDF with one stream of content a page.
fn pdf(pages: &[&str], extra: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    let kids: Vec<String> = (0..pages.len()).map(|i| format!("{} 0 R", 4 + 2 * i)).collect();
    let mut objects = vec![
        format!("<</Type/Catalog/Pages 2 0 R{extra}>>"),
        format!("<</Type/Pages/Count {}/Kids[{}]>>", pages.len(), kids.join(" ")),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    for (i, p) in pages.iter().enumerate() {
        let content = 5 + 2 * i;
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {content} 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
        ));
        objects.push(format!("<</Length {}>>\nstream\n{p}\nendstream", p.len()));
    }
    for (i, o) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend_from_slice(format!("{} 0 obj\n{o}\nendobj\n", i + 1).as_bytes());
    }
    let xref = out.len();
    out.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).as_bytes());
    for o in offsets {
        out.extend_from_slice(format!("{o:010} 00000 n \n").as_bytes());
    }
    out.extend_from_slice(
        format!("trailer\n<</Size {}/Root 1 0 R>>\nstartxref\n{xref}\n%%EOF\n", objects.len() + 1).as_bytes(),
    );
    out
}

#[test]
fn plain_text_is_kept_and_its_headings_found() {
    let d =
        get(b"\xEF\xBB\xBFTitle\r\n=====\r\n\r\nSome text.\r\n\r\n2.1 Results\r\n\r\nMore.", Media::Plain);
    assert_eq!(&*d.text, "Title\n=====\n\nSome text.\n\n2.1 Results\n\nMore.");
    assert_eq!(
        outline(&d),
        [(1, "Title", "Title\n=====\n\nSome text."), (2, "2.1 Results", "2.1 Results\n\nMore.")]
    );
}

#[test]
fn utf_16_is_read_by_its_mark_and_bad_bytes_are_named_by_offset() {
    let wide: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain("é 𝄞".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(&*get(&wide, Media::Plain).text, "é 𝄞");
    let l = Limits::default();
    for (bytes, at) in
        [(&b"good \xFF bad"[..], "byte 5"), (b"\xFE\xFF\0a\xD8\0\0b", "byte 4"), (b"ab\0c", "byte 2")]
    {
        let (code, message) = refusal(bytes, Some(Media::Plain), &l);
        assert_eq!(code, Code::InvalidDocument);
        assert!(message.contains(at), "{message}");
    }
}

#[test]
fn markdown_headings_are_sections_and_code_and_links_are_kept() {
    let md = "---\ntitle: \"T\"\n---\nIntro [link](http://x) *em*\nwrapped.\n\n# One\n\ntext `code`\n\n## Two\n\n```sh\nls  -l\n```\n\n- a\n  - b\n- c\n\n|x|y|\n|-|-|\n|1|2|\n\n<div>no</div>\n";
    let d = get(md.as_bytes(), Media::Markdown);
    assert_eq!(d.title.as_deref(), Some("T"));
    assert!(d.text.starts_with("Intro link em wrapped.\n\nOne\n\ntext code\n\nTwo\n\nls  -l"), "{}", d.text);
    assert!(d.text.contains("- a\n- b\n- c\n\nx | y\n1 | 2"), "{}", d.text);
    assert!(!d.text.contains("div"));
    assert_eq!(outline(&d)[0], (1, "One", "One\n\ntext code"));
    assert_eq!(d.sections[1].level, 2);
}

#[test]
fn html_keeps_what_a_reader_sees() {
    let html = "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p{}</style><script>var x='<p>no</p>'</script></head><body>
        <nav><ul><li>Home</ul></nav><h1>Head &eacute;</h1><p>One <b>two</b>\n three.<p hidden>secret<p>Four.<span style='display: none'>no</span>
        <ul><li>a<li>b</ul><table><tr><th>k</th><th>v</th></tr><tr><td><p>1</p></td><td>2</td></tr></table><pre>x\n  y</pre>
        <h2>Sub</h2>tail<div aria-hidden=true><div>no</div>no</div> end<footer>no</footer></body></html>";
    let d = get(html.as_bytes(), Media::Html);
    assert_eq!(d.title.as_deref(), Some("A & B"));
    assert_eq!(
        &*d.text,
        "Head é\n\nOne two three.\n\nFour.\n\n- a\n- b\n\nk | v\n1 | 2\n\nx\n  y\n\nSub\n\ntail end"
    );
    assert_eq!(outline(&d)[1], (2, "Sub", "Sub\n\ntail end"));
}

#[test]
fn a_million_open_elements_are_no_danger() {
    let d = get(format!("{}deep", "<div>".repeat(200_000)).as_bytes(), Media::Html);
    assert_eq!(&*d.text, "deep");
}

#[test]
fn pages_of_a_pdf_are_sections() {
    let one = "BT /F1 12 Tf 72 700 Td (First line of) Tj 0 -14 Td (a para-) Tj 0 -14 Td (graph.) Tj 0 -40 Td [(Sec)-20(ond)-300(one)] TJ ET";
    let d = get(&pdf(&[one, "BT /F1 12 Tf (Page two) Tj ET"], ""), Media::Pdf);
    assert_eq!(&*d.text, "First line of\na paragraph.\n\nSecond one\n\nPage two");
    assert_eq!(outline(&d)[1], (1, "p. 2", "Page two"));
}

#[test]
fn pdfs_that_cannot_be_read_say_why() {
    let l = Limits::default();
    let (code, m) = refusal(b"hello, I am no PDF", Some(Media::Pdf), &l);
    assert!(code == Code::InvalidDocument && m.contains("no PDF"), "{m}");
    let (_, m) = refusal(&pdf(&["0 0 10 10 re f"], ""), None, &l);
    assert!(m.contains("OCR"), "{m}");
    let (code, m) = refusal(&pdf(&["BT ET", "BT ET"], ""), None, &Limits { max_pages: 1, ..l.clone() });
    assert!(code == Code::TooLarge && m.contains("1 pages"), "{m}");
    let (code, _) = refusal(b"%PDF-1.4\ngarbage", None, &l);
    assert_eq!(code, Code::InvalidDocument);
}

#[test]
fn a_pdf_that_grows_over_the_limit_is_refused() {
    let mut doc = lopdf::Document::with_version("1.5");
    let pages = doc.new_object_id();
    let bomb = lopdf::Stream::new(lopdf::Dictionary::new(), vec![b' '; 8 << 20]);
    let content = doc.add_object(bomb);
    let page =
        doc.add_object(lopdf::dictionary! {"Type" => "Page", "Parent" => pages, "Contents" => content});
    doc.objects.insert(
        pages,
        lopdf::dictionary! {"Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1}.into(),
    );
    let root = doc.add_object(lopdf::dictionary! {"Type" => "Catalog", "Pages" => pages});
    doc.trailer.set("Root", root);
    doc.compress();
    let mut bytes = Vec::new();
    doc.save_to(&mut bytes).unwrap();
    assert!(bytes.len() < 100_000);
    let limits = Limits { max_decompressed_bytes: 1 << 20, ..Limits::default() };
    let (code, m) = refusal(&bytes, None, &limits);
    assert!(code == Code::TooLarge && m.contains("what the PDF decompresses"), "{m}");
    let page = Limits { max_page_bytes: 1 << 20, ..Limits::default() };
    let (code, m) = refusal(&bytes, None, &page);
    assert!(code == Code::TooLarge && m.contains("a page of the PDF decompresses"), "{m}");

    // The same in an object stream, which is read before any page.
    let mut content = b"9 0 ".to_vec();
    content.resize(8 << 20, b' ');
    let mut packed = lopdf::Stream::new(lopdf::Dictionary::new(), content);
    packed.compress().unwrap();
    let mut bytes = b"%PDF-1.5\n".to_vec();
    let first = bytes.len();
    bytes.extend_from_slice(b"1 0 obj\n<</Type/Catalog>>\nendobj\n");
    let second = bytes.len();
    let head = format!(
        "2 0 obj\n<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length {}>>\nstream\n",
        packed.content.len()
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&packed.content);
    bytes.extend_from_slice(b"\nendstream\nendobj\n");
    let xref = bytes.len();
    let tail = format!(
        "xref\n0 3\n0000000000 65535 f \n{first:010} 00000 n \n{second:010} 00000 n \ntrailer\n<</Size 3/Root 1 0 R>>\nstartxref\n{xref}\n%%EOF\n"
    );
    bytes.extend_from_slice(tail.as_bytes());
    assert_eq!(refusal(&bytes, None, &limits).0, Code::TooLarge);
}

#[test]
fn limits_and_empty_documents_are_told() {
    let l = Limits { max_bytes: 10, max_text_bytes: 5, ..Limits::default() };
    assert_eq!(refusal(b"more than ten bytes", None, &l).0, Code::TooLarge);
    assert_eq!(refusal(b"six of", None, &l).0, Code::TooLarge);
    assert_eq!(refusal(b"", None, &l).0, Code::InvalidDocument);
    assert_eq!(refusal(b" \n", None, &l).0, Code::InvalidDocument);
}

#[test]
fn types_are_known_by_header_name_and_content() {
    assert_eq!(media_of("Text/HTML; charset=utf-8"), Some(Media::Html));
    assert_eq!(media_of("image/png"), None);
    assert_eq!(media_of_name("a.b.MD"), Some(Media::Markdown));
    assert_eq!(sniff(b"\n <!DOCTYPE HTML><p>"), Media::Html);
    assert_eq!(sniff(b"text\n# Heading\n"), Media::Markdown);
    assert_eq!(sniff(b"#! no heading"), Media::Plain);
    assert_eq!(sniff(b"junk%PDF-1.7"), Media::Pdf);
}

fn sound(d: &Document) {
    let mut at = 0;
    for s in &d.sections {
        assert!(s.span.start >= at && s.span.end <= d.text.len());
        assert!(d.text.get(s.span.clone()).is_some());
        at = s.span.end;
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in 0..4usize) {
        let head: &[u8] = [&b""[..], b"%PDF-1.5\n1 0 obj<</Type/Catalog", b"<html>", b"\xFF\xFE"][head];
        let bytes = [head, &bytes].concat();
        for media in [None, Some(Media::Plain), Some(Media::Markdown), Some(Media::Html), Some(Media::Pdf)] {
            if let Ok(d) = extract(&bytes, media, &Limits::default()) {
                sound(&d);
            }
        }
    }

    #[test]
    fn spans_are_in_order_on_character_boundaries(t in "(<h1>|</h1>|<p hidden>|# |\n|===\n|- |é|word |&amp;|<td>|<pre>|</pre>|<nav>|</nav>|```|\\|){0,60}") {
        for media in [Media::Plain, Media::Markdown, Media::Html] {
            if let Ok(d) = extract(t.as_bytes(), Some(media), &Limits::default()) {
                sound(&d);
            }
        }
    }

    #[test]
    fn a_pdf_damaged_anywhere_never_panics(at in 0..800usize, with in any::<[u8; 3]>()) {
        let mut bytes = pdf(&["BT /F1 12 Tf (Page one) Tj ET", "BT /F1 12 Tf [(a) -300 (b)] TJ ET"], "");
        let at = at.min(bytes.len() - 3);
        bytes[at..at + 3].copy_from_slice(&with);
        if let Ok(d) = extract(&bytes, Some(Media::Pdf), &Limits::default()) {
            sound(&d);
        }
    }
}
